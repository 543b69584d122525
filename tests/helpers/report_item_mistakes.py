"""Mistakes in the files of tables and figures, for test_config_mistakes.py: how each is made, and what is said."""

TABLE = "workflow/report_items/table3.yaml"
LITERATURE = "workflow/report_items/table1.yaml"
COSTS = "workflow/report_items/table2.yaml"
SWEPT = "workflow/report_items/tableA1.yaml"

WHOLE = r"(?s)\A.*\Z"
"""In place of a part of the file: all of it."""

# file, what to replace there (once, a regular expression), by what, and what the error says: all of it, or its
# beginning up to the list of the names that would do.
Edit = tuple[str, str, str, str]

FIGURE = "{title: t, figure: %s, llms: [vicuna-7b], rows: [{title: a, method: finetune, data: 80K}]}\n"

IN_REPORT_ITEMS: dict[str, Edit] = {
    "row of scores without data": (
        TABLE, "method: layernorm, data: 80K", "method: layernorm",
        "rows[1].data: missing key; name one of connector, 80K, Conv.20K, Detail.20K, Reasoning.20K",
    ),
    "group that is no LLM": (
        TABLE, r"llms: \[vicuna-7b", "llms: [3", "llms[0]: expected an LLM's name, or {llm: NAME, title: TITLE}",
    ),
    "group with a misspelt key": (
        TABLE, r"llms: \[vicuna-7b", "llms: [{llm: vicuna-7b, titel: V}",
        "llms[0].titel: unknown key (did you mean llms[0].title?)",
    ),
    "group without its LLM": (
        TABLE, r"llms: \[vicuna-7b", "llms: [{title: V}", "llms[0].llm: missing key; add it (text)",
    ),
    "group with a number for a title": (
        TABLE, r"llms: \[vicuna-7b", "llms: [{llm: vicuna-7b, title: 7}",
        "llms[0].title: expected text or null, got 7; write '7' in quotes",
    ),
    "group of an unknown llm": (
        TABLE, r"llms: \[vicuna-7b, llama2-7b", "llms: [vicuna-7b, {llm: llama2, title: L}",
        "llms[1]: unknown llm 'llama2' (did you mean 'llama2-7b'?; known: ",
    ),
    "one LLM in two groups of one title": (
        TABLE, r"llms: \[vicuna-7b", "llms: [vicuna-7b, vicuna-7b",
        "llms[1]: 'MM-VICUNA-7B' is also llms[0]; change or remove one",
    ),
    "two groups of one title": (
        COSTS, "title: 13B scale", "title: 7B scale",
        "llms[1]: '7B scale' is also llms[0]; change or remove one",
    ),
    "unknown layout": (
        COSTS, "layout: groups-across", "layout: group-across",
        "layout: expected 'groups', 'groups-across' or 'rows-across', got the text 'group-across' "
        "(did you mean 'groups-across'?)",
    ),
    "unknown emphasis": (
        COSTS, "emphasis: none", "emphasis: bst",
        "emphasis: expected 'best-and-second', 'best' or 'none', got the text 'bst' (did you mean 'best'?)",
    ),
    "blind where nobody is asked": (
        COSTS, "method: finetune", "method: finetune, blind: true",
        "rows[0].blind: nobody is asked anything here; remove it",
    ),
    "paired with an unknown row": (
        TABLE, "paired_with: Finetune-80K", "paired_with: Finetune",
        "paired_with: unknown row 'Finetune' (did you mean 'Finetune-80K'?; known: ",
    ),
    "literature of an unknown group": (
        LITERATURE, r"\[Baseline models\]", "[Baseline model]",
        "literature[0]: unknown group of workflow/paper/table1.csv 'Baseline model' "
        "(did you mean 'Baseline models'?; known: Baseline models, ",
    ),
    "literature of a table that the paper lacks": (
        "workflow/report_items/blind.yaml", "intervals: true", "literature: [Baseline models]",
        "literature: workflow/paper/blind.csv does not exist; remove the key",
    ),
    "sweep without a place for the rate": (
        SWEPT, r'"\{rate\}"', "Rate",
        "rows[0]: a row with sweep: true becomes a row of each learning rate; write {rate} into its title",
    ),
    "place for a rate without a sweep": (
        SWEPT, ", sweep: true", "",
        "rows[0]: {rate} in a title is for a row with sweep: true; add that, or change the title",
    ),
    "sweep that the scale has not": (
        SWEPT, "method: layernorm-simp", "method: lora",
        "rows[0].sweep: the scale sweeps no rates of 'lora' (it does of: layernorm-simp)",
    ),
    "sweep of what is made of chosen rates": (
        SWEPT, r"\[Flickr30k\]", "[Flickr30k, Similarity]",
        "rows[0].sweep: scores alone are shown of every learning rate; remove it",
    ),
    "unknown kind of figure": (
        TABLE, "^", "figure: bar\n",
        "figure: unknown kind of figure 'bar' (did you mean 'bars'?; known: bars, cost, heat-maps, gradients)",
    ),
    "misspelt key of a figure": (TABLE, "^", "figur: bars\n", "figur: unknown key (did you mean figure?)"),
    "figure with a table's key": (
        TABLE, "^", "figure: bars\n",
        "emphasis: unknown key (known here: title, note, llms, rows, figure, columns) (and 1 more)",
    ),
    "bars of what is no score": (
        LITERATURE, WHOLE, FIGURE % "bars, columns: [Similarity]",
        "columns[0]: unknown column 'Similarity' (known: MME, VQAv2, MSCOCO, Flickr30k, POPE)",
    ),
    "heat maps of rows without data": (
        LITERATURE, WHOLE, (FIGURE % "heat-maps").replace(", data: 80K", ""),
        "rows[0].data: missing key; name one of connector, ",
    ),
    "gradients of rows without data": (
        LITERATURE, WHOLE, (FIGURE % "gradients, norms: [{norm: post, layer: 1, of: 32}]").replace(", data: 80K", ""),
        "rows[0].data: missing key; name one of connector, ",
    ),
    "unknown norm": (
        LITERATURE, WHOLE, FIGURE % "gradients, norms: [{norm: inputs, layer: 1, of: 32}]",
        "norms[0].norm: expected 'input' or 'post', got the text 'inputs' (did you mean 'input'?)",
    ),
    "layer below the last": (
        LITERATURE, WHOLE, FIGURE % "gradients, norms: [{norm: input, layer: 33, of: 32}]",
        "norms[0]: layer 33 of 32 is none; layer is at most of",
    ),
    "norm twice": (
        LITERATURE, WHOLE, FIGURE % "gradients, norms: [{norm: post, layer: 1, of: 2}, {norm: post, layer: 1, of: 2}]",
        "norms[1].norm: 'post' is also norms[0].norm; change or remove one",
    ),
    "norms of two layers": (
        LITERATURE, WHOLE, FIGURE % "gradients, norms: [{norm: post, layer: 1, of: 2}, {norm: input, layer: 2, of: 2}]",
        "norms: one layer is shown; give all the same layer and of",
    ),
    "heat maps of two LLMs": (
        LITERATURE, WHOLE, (FIGURE % "heat-maps").replace("[vicuna-7b]", "[vicuna-7b, llama2-7b]"),
        "llms: heat-maps show one LLM; name one here, others in files of their own",
    ),
    "gradients of two LLMs": (
        LITERATURE, WHOLE, (FIGURE % "gradients, norms: [{norm: post, layer: 1, of: 2}]").replace(
            "[vicuna-7b]", "[vicuna-7b, llama2-7b]"
        ),
        "llms: gradients show one LLM; name one here, others in files of their own",
    ),
    "sweep of gradients": (
        LITERATURE, WHOLE, (FIGURE % "gradients, norms: [{norm: post, layer: 1, of: 2}]").replace(
            "title: a, method: finetune", "title: 'a {rate}', sweep: true, method: layernorm-simp"
        ),
        "rows[0].sweep: scores alone are shown of every learning rate; remove it",
    ),
}  # fmt: skip
