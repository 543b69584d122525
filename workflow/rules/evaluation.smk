# A benchmark's questions, a model's answers, and their score.


# The stages of benchmarks, as the registry has them: one rule each, made in a loop below.
BENCHMARK_STAGES = {
    **{stage: {"raw": "fetch draw", "images": "fetch draw"} for stage in question_stages()},
    **{stage: {"questions": "questions-*"} for stage in reference_stages()},
    **{
        stage: {
            "answers": "predict predict-other fetch",
            "questions": "questions-*",
            "references": f"optional {' '.join(reference_stages())}",
        }
        for stage in score_stages()
    },
}

for stage, roles in BENCHMARK_STAGES.items():

    # Repeats the rule `stage`, since `use rule` takes no name from a loop.
    rule:
        name:
            stage.replace("-", "_")
        input:
            STUDY.inputs(stage, **roles),
        output:
            f"{STUDY.store}/{stage}/{{result}}/manifest.json",
        log:
            f"logs/{stage}/{{result}}.log",
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


# The answers of one tuned model to the questions of one benchmark.
use rule stage as predict with:
    input:
        STUDY.inputs(
            "predict",
            llm="fetch convert",
            vision="fetch",
            connector="connector",
            images="fetch draw",
            tuned="finetune select",
            questions="questions-*",
        ),
    pathvars:
        stage="predict",


# The answers of somebody else's model, as transformers loads and asks it.
use rule stage as predict_other with:
    input:
        STUDY.inputs("predict-other", model="fetch", questions="questions-*", images="fetch draw"),
    pathvars:
        stage="predict-other",
