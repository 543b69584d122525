# What a tuned model is like inside.


# How alike the layers of one chosen model are.
use rule stage as similarity with:
    input:
        STUDY.inputs(
            "similarity",
            llm="fetch convert",
            vision="fetch",
            connector="connector",
            images="fetch draw",
            tuned="select",
            questions="questions-*",
        ),
    pathvars:
        stage="similarity",
