# Raw files, the samples made from them, and weights.


# One set of the demo's drawn world; some sets ask about the images of another.
use rule stage as draw with:
    input:
        STUDY.inputs("draw", coco="optional draw"),
    pathvars:
        stage="draw",


# One entry of the catalogue, downloaded or copied.
use rule stage as fetch with:
    input:
        STUDY.inputs("fetch"),
    pathvars:
        stage="fetch",


# The samples of one training set, every filter counted.
use rule stage as prepare with:
    input:
        STUDY.inputs("prepare", raw="fetch draw"),
    pathvars:
        stage="prepare",


# An LLM's weights in the format that training reads.
use rule stage as convert with:
    input:
        STUDY.inputs("convert", llm="fetch"),
    pathvars:
        stage="convert",
