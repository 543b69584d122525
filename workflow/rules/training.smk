# Connector pretraining, finetuning, what it takes, and the choice of a learning rate.


rule connector:
    input:
        ancient(STUDY.inputs("connector")),
    output:
        f"{STUDY.store}/connector/{{result}}/manifest.json",
    log:
        "logs/connector/{result}.log",
    params:
        spec=STUDY.spec("connector"),
    threads: STUDY.threads("connector")
    resources:
        **STUDY.resources("connector"),
    message:
        "connector {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log} --heavy"


rule finetune:
    input:
        ancient(STUDY.inputs("finetune")),
    output:
        f"{STUDY.store}/finetune/{{result}}/manifest.json",
    log:
        "logs/finetune/{result}.log",
    params:
        spec=STUDY.spec("finetune"),
    threads: STUDY.threads("finetune")
    resources:
        **STUDY.resources("finetune"),
    group:
        STUDY.group("finetune")
    message:
        "finetune {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log} --heavy"


rule measure:
    input:
        ancient(STUDY.inputs("measure")),
    output:
        f"{STUDY.store}/measure/{{result}}/manifest.json",
    log:
        "logs/measure/{result}.log",
    params:
        spec=STUDY.spec("measure"),
    threads: STUDY.threads("measure")
    resources:
        **STUDY.resources("measure"),
    message:
        "measure {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log} --heavy"


rule select:
    input:
        ancient(STUDY.inputs("select")),
    output:
        f"{STUDY.store}/select/{{result}}/manifest.json",
    log:
        "logs/select/{result}.log",
    params:
        spec=STUDY.spec("select"),
    threads: STUDY.threads("select")
    resources:
        **STUDY.resources("select"),
    group:
        STUDY.group("select")
    message:
        "select {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"
