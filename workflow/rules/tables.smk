# Tables, and the files with fixed names under which people ask for them.


rule table:
    input:
        ancient(STUDY.inputs("table")),
    output:
        f"{STUDY.store}/table/{{result}}/manifest.json",
    log:
        "logs/table/{result}.log",
    params:
        spec=STUDY.spec("table"),
    threads: STUDY.threads("table")
    resources:
        **STUDY.resources("table"),
    message:
        "table {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


rule data_table:
    input:
        ancient(STUDY.inputs("data-table")),
    output:
        f"{STUDY.store}/data-table/{{result}}/manifest.json",
    log:
        "logs/data-table/{result}.log",
    params:
        spec=STUDY.spec("data-table"),
    threads: STUDY.threads("data-table")
    resources:
        **STUDY.resources("data-table"),
    message:
        "data-table {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


rule claims:
    input:
        ancient(STUDY.inputs("claims")),
    output:
        f"{STUDY.store}/claims/{{result}}/manifest.json",
    log:
        "logs/claims/{result}.log",
    params:
        spec=STUDY.spec("claims"),
    threads: STUDY.threads("claims")
    resources:
        **STUDY.resources("claims"),
    message:
        "claims {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


rule comparison:
    input:
        ancient(STUDY.inputs("comparison")),
    output:
        f"{STUDY.store}/comparison/{{result}}/manifest.json",
    log:
        "logs/comparison/{result}.log",
    params:
        spec=STUDY.spec("comparison"),
    threads: STUDY.threads("comparison")
    resources:
        **STUDY.resources("comparison"),
    message:
        "comparison {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


# A file with a fixed name is the one thing that a hash in the path cannot vouch for: at every start it is compared with
# what it should hold, and one that differs (the config was switched, someone edited it) is published again.
rule publish:
    input:
        ancient(STUDY.report_item),
        STUDY.withdrawn,
    output:
        "{folder}/{name}.{format}",
    message:
        "{output}"
    shell:
        "cat $(dirname {input[0]})/{wildcards.name}.{wildcards.format} > {output}"


# What `snakemake --report` shows: a page for each table and figure, with a caption, in the paper's order.
report: "../report/overview.rst"


rule page:
    input:
        ancient(REPORT.result),
        REPORT.outdated,
    output:
        report(
            f"{PAGES}/{{name}}.html",
            caption="../report/caption.rst",
            category=REPORT.category,
            labels=REPORT.labels,
        ),
    params:
        caption=REPORT.caption,
    message:
        "{output}"
    shell:
        "{sys.executable} -m lntune.plan.pages $(dirname {input[0]}) {wildcards.name} > {output}"
