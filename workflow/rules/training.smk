# Connector pretraining, finetuning, what it takes, and the choice of a learning rate.


rule connector:
    input:
        ancient(STUDY.inputs("connector")),
    output:
        f"{STUDY.store}/connector/{{result}}/manifest.json",
    log:
        "logs/connector/{result}.log",
    params:
        order=STUDY.order("connector"),
    threads: STUDY.threads("connector")
    resources:
        **STUDY.resources("connector"),
    message:
        "connector {wildcards.result}"
    shell:
        "{JOB} {params.order} {log} --heavy"


rule finetune:
    input:
        ancient(STUDY.inputs("finetune")),
    output:
        f"{STUDY.store}/finetune/{{result}}/manifest.json",
    log:
        "logs/finetune/{result}.log",
    params:
        order=STUDY.order("finetune"),
    threads: STUDY.threads("finetune")
    resources:
        **STUDY.resources("finetune"),
    group:
        STUDY.group("finetune")
    message:
        "finetune {wildcards.result}"
    shell:
        "{JOB} {params.order} {log} --heavy"


rule measure:
    input:
        ancient(STUDY.inputs("measure")),
    output:
        f"{STUDY.store}/measure/{{result}}/manifest.json",
    log:
        "logs/measure/{result}.log",
    params:
        order=STUDY.order("measure"),
    threads: STUDY.threads("measure")
    resources:
        **STUDY.resources("measure"),
    message:
        "measure {wildcards.result}"
    shell:
        "{JOB} {params.order} {log} --heavy"


rule select:
    input:
        ancient(STUDY.inputs("select")),
    output:
        f"{STUDY.store}/select/{{result}}/manifest.json",
    log:
        "logs/select/{result}.log",
    params:
        order=STUDY.order("select"),
    threads: STUDY.threads("select")
    resources:
        **STUDY.resources("select"),
    group:
        STUDY.group("select")
    message:
        "select {wildcards.result}"
    shell:
        "{JOB} {params.order} {log}"
