# A benchmark's questions, a model's answers, and their score.


rule questions_captions:
    input:
        ancient(STUDY.inputs("questions-captions")),
    output:
        f"{STUDY.store}/questions-captions/{{result}}/manifest.json",
    log:
        "logs/questions-captions/{result}.log",
    params:
        spec=STUDY.spec("questions-captions"),
    threads: STUDY.threads("questions-captions")
    resources:
        **STUDY.resources("questions-captions"),
    message:
        "questions-captions {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


rule questions_mme:
    input:
        ancient(STUDY.inputs("questions-mme")),
    output:
        f"{STUDY.store}/questions-mme/{{result}}/manifest.json",
    log:
        "logs/questions-mme/{result}.log",
    params:
        spec=STUDY.spec("questions-mme"),
    threads: STUDY.threads("questions-mme")
    resources:
        **STUDY.resources("questions-mme"),
    message:
        "questions-mme {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


rule questions_pope:
    input:
        ancient(STUDY.inputs("questions-pope")),
    output:
        f"{STUDY.store}/questions-pope/{{result}}/manifest.json",
    log:
        "logs/questions-pope/{result}.log",
    params:
        spec=STUDY.spec("questions-pope"),
    threads: STUDY.threads("questions-pope")
    resources:
        **STUDY.resources("questions-pope"),
    message:
        "questions-pope {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


rule questions_vqav2:
    input:
        ancient(STUDY.inputs("questions-vqav2")),
    output:
        f"{STUDY.store}/questions-vqav2/{{result}}/manifest.json",
    log:
        "logs/questions-vqav2/{result}.log",
    params:
        spec=STUDY.spec("questions-vqav2"),
    threads: STUDY.threads("questions-vqav2")
    resources:
        **STUDY.resources("questions-vqav2"),
    message:
        "questions-vqav2 {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


rule tokenize_references:
    input:
        ancient(STUDY.inputs("tokenize-references")),
    output:
        f"{STUDY.store}/tokenize-references/{{result}}/manifest.json",
    log:
        "logs/tokenize-references/{result}.log",
    params:
        spec=STUDY.spec("tokenize-references"),
    threads: STUDY.threads("tokenize-references")
    resources:
        **STUDY.resources("tokenize-references"),
    message:
        "tokenize-references {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


rule predict:
    input:
        ancient(STUDY.inputs("predict")),
    output:
        f"{STUDY.store}/predict/{{result}}/manifest.json",
    log:
        "logs/predict/{result}.log",
    params:
        spec=STUDY.spec("predict"),
    threads: STUDY.threads("predict")
    resources:
        **STUDY.resources("predict"),
    group:
        STUDY.group("predict")
    message:
        "predict {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log} --heavy"


rule score_captions:
    input:
        ancient(STUDY.inputs("score-captions")),
    output:
        f"{STUDY.store}/score-captions/{{result}}/manifest.json",
    log:
        "logs/score-captions/{result}.log",
    params:
        spec=STUDY.spec("score-captions"),
    threads: STUDY.threads("score-captions")
    resources:
        **STUDY.resources("score-captions"),
    message:
        "score-captions {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


rule score_mme:
    input:
        ancient(STUDY.inputs("score-mme")),
    output:
        f"{STUDY.store}/score-mme/{{result}}/manifest.json",
    log:
        "logs/score-mme/{result}.log",
    params:
        spec=STUDY.spec("score-mme"),
    threads: STUDY.threads("score-mme")
    resources:
        **STUDY.resources("score-mme"),
    message:
        "score-mme {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


rule score_pope:
    input:
        ancient(STUDY.inputs("score-pope")),
    output:
        f"{STUDY.store}/score-pope/{{result}}/manifest.json",
    log:
        "logs/score-pope/{result}.log",
    params:
        spec=STUDY.spec("score-pope"),
    threads: STUDY.threads("score-pope")
    resources:
        **STUDY.resources("score-pope"),
    message:
        "score-pope {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


rule score_vqav2:
    input:
        ancient(STUDY.inputs("score-vqav2")),
    output:
        f"{STUDY.store}/score-vqav2/{{result}}/manifest.json",
    log:
        "logs/score-vqav2/{result}.log",
    params:
        spec=STUDY.spec("score-vqav2"),
    threads: STUDY.threads("score-vqav2")
    resources:
        **STUDY.resources("score-vqav2"),
    message:
        "score-vqav2 {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"
