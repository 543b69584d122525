# Connector pretraining, finetuning, what it takes, and the choice of a learning rate.


# A training set in one LLM's tokens, with the labels of its answers.
use rule stage as encode with:
    input:
        STUDY.inputs("encode", llm="fetch convert", samples="prepare"),
    pathvars:
        stage="encode",


# The connector of one LLM and vision encoder, pretrained with everything else frozen.
use rule stage as connector with:
    input:
        STUDY.inputs("connector", llm="fetch convert", vision="fetch", samples="encode", images="fetch draw"),
    pathvars:
        stage="connector",


# One LLM and method tried for minutes on this machine, before it trains for hours.
use rule stage as rehearse with:
    input:
        STUDY.inputs("rehearse"),
    pathvars:
        stage="rehearse",


# One model tuned on instructions: one LLM, vision encoder, method, data set, learning rate and seed.
use rule stage as finetune with:
    input:
        STUDY.inputs(
            "finetune",
            llm="fetch convert",
            vision="fetch",
            connector="connector",
            samples="encode",
            images="fetch draw",
            earlier="optional finetune",
            kept="optional halve",
        ),
    pathvars:
        stage="finetune",


# The trainable parameters and the memory of one LLM, vision encoder and method.
use rule stage as measure with:
    input:
        STUDY.inputs("measure", llm="fetch convert", vision="fetch"),
    pathvars:
        stage="measure",


# Which candidates of one variant go on after a part of their steps (`search` in config.yaml).
use rule stage as halve with:
    input:
        STUDY.inputs("halve", candidates="finetune", scores="score-captions"),
    pathvars:
        stage="halve",


# The learning rate of one variant, by Flickr30k CIDEr; its checkpoint is what the next stages read.
use rule stage as select with:
    input:
        STUDY.inputs("select", candidates="finetune", scores="score-captions"),
    pathvars:
        stage="select",
