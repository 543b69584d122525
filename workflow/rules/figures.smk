# Figures: drawn from scores, measurements, similarities and the logs of chosen runs.


rule figure_bars:
    input:
        ancient(STUDY.inputs("figure-bars")),
    output:
        f"{STUDY.store}/figure-bars/{{result}}/manifest.json",
    log:
        "logs/figure-bars/{result}.log",
    params:
        spec=STUDY.spec("figure-bars"),
    threads: STUDY.threads("figure-bars")
    resources:
        **STUDY.resources("figure-bars"),
    message:
        "figure-bars {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


rule figure_cost:
    input:
        ancient(STUDY.inputs("figure-cost")),
    output:
        f"{STUDY.store}/figure-cost/{{result}}/manifest.json",
    log:
        "logs/figure-cost/{result}.log",
    params:
        spec=STUDY.spec("figure-cost"),
    threads: STUDY.threads("figure-cost")
    resources:
        **STUDY.resources("figure-cost"),
    message:
        "figure-cost {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


rule figure_heat_maps:
    input:
        ancient(STUDY.inputs("figure-heat-maps")),
    output:
        f"{STUDY.store}/figure-heat-maps/{{result}}/manifest.json",
    log:
        "logs/figure-heat-maps/{result}.log",
    params:
        spec=STUDY.spec("figure-heat-maps"),
    threads: STUDY.threads("figure-heat-maps")
    resources:
        **STUDY.resources("figure-heat-maps"),
    message:
        "figure-heat-maps {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"


rule figure_gradients:
    input:
        ancient(STUDY.inputs("figure-gradients")),
    output:
        f"{STUDY.store}/figure-gradients/{{result}}/manifest.json",
    log:
        "logs/figure-gradients/{result}.log",
    params:
        spec=STUDY.spec("figure-gradients"),
    threads: STUDY.threads("figure-gradients")
    resources:
        **STUDY.resources("figure-gradients"),
    message:
        "figure-gradients {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log}"
