# What all rules that make a result share. A rule of a stage adds the stage's name and its inputs: by role, with the
# stages that may stand behind each ("optional": some results have no such input). A plan that disagrees stops the run.


rule stage:
    output:
        f"{STUDY.store}/<stage>/{{result}}/manifest.json",
    log:
        "logs/<stage>/{result}.log",
    pathvars:
        stage="none",
    group:
        STUDY.group
    threads: STUDY.threads
    resources:
        **STUDY.resources,
    params:
        run=STUDY.run,
        spec=STUDY.spec,
    message:
        "{rule} {wildcards.result}"
    shell:
        "{params.run} {params.spec} {log}"
