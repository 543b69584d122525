# What a tuned model is like inside.


rule similarity:
    input:
        ancient(STUDY.inputs("similarity")),
    output:
        f"{STUDY.store}/similarity/{{result}}/manifest.json",
    log:
        "logs/similarity/{result}.log",
    params:
        spec=STUDY.spec("similarity"),
    threads: STUDY.threads("similarity")
    resources:
        **STUDY.resources("similarity"),
    group:
        STUDY.group("similarity")
    message:
        "similarity {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log} --heavy"
