# Raw files, and the samples made from them.


rule draw:
    input:
        ancient(STUDY.inputs("draw")),
    output:
        f"{STUDY.store}/draw/{{result}}/manifest.json",
    log:
        "logs/draw/{result}.log",
    params:
        spec=STUDY.spec("draw"),
    threads: STUDY.threads("draw")
    resources:
        **STUDY.resources("draw"),
    message:
        "draw {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


rule fetch:
    input:
        ancient(STUDY.inputs("fetch")),
    output:
        f"{STUDY.store}/fetch/{{result}}/manifest.json",
    log:
        "logs/fetch/{result}.log",
    params:
        spec=STUDY.spec("fetch"),
    threads: STUDY.threads("fetch")
    resources:
        **STUDY.resources("fetch"),
    message:
        "fetch {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


rule prepare:
    input:
        ancient(STUDY.inputs("prepare")),
    output:
        f"{STUDY.store}/prepare/{{result}}/manifest.json",
    log:
        "logs/prepare/{result}.log",
    params:
        spec=STUDY.spec("prepare"),
    threads: STUDY.threads("prepare")
    resources:
        **STUDY.resources("prepare"),
    message:
        "prepare {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


rule convert:
    input:
        ancient(STUDY.inputs("convert")),
    output:
        f"{STUDY.store}/convert/{{result}}/manifest.json",
    log:
        "logs/convert/{result}.log",
    params:
        spec=STUDY.spec("convert"),
    threads: STUDY.threads("convert")
    resources:
        **STUDY.resources("convert"),
    message:
        "convert {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log} --heavy"
