# Tables, and the files with fixed names under which people ask for them.


# One table of the paper, or of one's own.
use rule stage as table with:
    input:
        STUDY.inputs("table", selections="optional select", scores="score-* measure similarity"),
    pathvars:
        stage="table",


# What the training sets and benchmarks were made of, and what the filters dropped.
use rule stage as data_table with:
    input:
        STUDY.inputs("data-table", sets="prepare questions-*"),
    pathvars:
        stage="data-table",


# The paper's claims, held against what was found.
use rule stage as claims with:
    input:
        STUDY.inputs("claims", tables="optional table figure-bars figure-cost figure-heat-maps figure-gradients"),
    pathvars:
        stage="claims",


# The tables compared with the paper's.
use rule stage as comparison with:
    input:
        STUDY.inputs("comparison", tables="optional table figure-bars figure-cost figure-heat-maps figure-gradients"),
    pathvars:
        stage="comparison",


# What the rehearsals measured; only if asked for by name.
use rule stage as rehearsal with:
    input:
        STUDY.inputs("rehearsal", rehearsals="rehearse"),
    pathvars:
        stage="rehearsal",


# A file with a fixed name is the one thing that a hash in the path cannot vouch for: at every start it is compared with
# what it should hold, and one that differs (the config was switched, someone edited it) is published again. It is put in
# its place whole, whoever else publishes it at the same time.
rule publish:
    input:
        shown=ancient(STUDY.report_item),
        stale=STUDY.stale,
    output:
        "{folder}/{name}.{format}",
    message:
        "{output}"
    shell:
        'cat -- "$(dirname -- {input.shown:q})"/{wildcards.name}.{wildcards.format} > .snakemake/$$'
        " && mv -f .snakemake/$$ {output}"


# Pages on which every number opens what it was made from. They show what is finished, and have nothing made for them.
rule site:
    input:
        STUDY.stale_site,
    output:
        "site/index.html",
    params:
        write=STUDY.write_site,
    message:
        "{output}"
    shell:
        "{params.write}"
