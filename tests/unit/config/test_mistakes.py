"""A mistake in the YAML files that a user edits is one line: file, key, what is wrong, what to do. No job starts."""

import os
import re
import shutil
from pathlib import Path

import pytest

from checkout import run_python
from lntune.errors import UserError
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from report_item_mistakes import COSTS, IN_REPORT_ITEMS, LITERATURE, SWEPT, TABLE, WHOLE, Edit

ROOT = Path(__file__).resolve().parents[3]

CONFIG = "config.yaml"
SCALE = "workflow/scales/demo.yaml"
PROTOCOL = "workflow/protocols/modern.yaml"
CATALOG = "workflow/catalog.yaml"
REPORT_ITEMS = r"report_items:[^[]*\[[^]]*\]"
RATES = r"finetune: \{learning_rates: \[[^]]*\]"
CLIP_FILE = "entries: {demo-clip: {about: a, licence: b, files: {m.json: {path: m.json, %s}}}}\n"

IN_CONFIG: dict[str, Edit] = {
    "misspelt key": (CONFIG, "scale: demo", "scael: demo", "scael: unknown key (did you mean scale?)"),
    "scale that does not exist": (
        CONFIG, "scale: demo", "scale: dmeo", "scale: unknown scale 'dmeo' (did you mean 'demo'?; known: ",
    ),
    "number for a name": (CONFIG, "scale: demo", "scale: 3", "scale: expected text, got 3; write '3' in quotes"),
    "key without a value": (
        CONFIG, "scale: demo", "scale:", "scale: expected text, got nothing; write a value after the colon",
    ),
    "missing key": (
        CONFIG, r"protocol: .*\n", "",
        "protocol: missing key; add it (text)",
    ),
    "report items as text": (
        CONFIG, REPORT_ITEMS, "report_items: table3",
        "report_items: expected a list, got the text 'table3'; write [table3] for a list of one",
    ),
    "no report item": (
        CONFIG, REPORT_ITEMS, "report_items: []",
        "report_items: expected at least 1 entry, got an empty list",
    ),
    "report item that does not exist": (
        CONFIG, REPORT_ITEMS, "report_items: [table3, tabel1]",
        "report_items[1]: unknown report item 'tabel1' (did you mean 'table1'?; known: ",
    ),
    "report item twice": (
        CONFIG, REPORT_ITEMS, "report_items: [table3, table1, table3]",
        "report_items: table3 is there 2 times; keep one",
    ),
    "seed twice": (CONFIG, r"seeds: \[0\]", "seeds: [0, 1, 0]", "seeds: 0 is there 2 times; keep one"),
    "no seed": (CONFIG, r"seeds: \[0\]", "seeds: []", "seeds: expected at least 1 entry, got an empty list"),
    "seed as text": (
        CONFIG, r"seeds: \[0\]", "seeds: ['0']",
        "seeds[0]: expected a whole number, got the text '0'; write 0 without quotes or leading zeros",
    ),
    "negative seed": (CONFIG, r"seeds: \[0\]", "seeds: [-1]", "seeds[0]: expected at least 0, got -1"),
    "protocol that does not exist": (
        CONFIG, "protocol: modern", "protocol: modrn",
        "protocol: unknown protocol 'modrn' (did you mean 'modern'?; known: modern, paper)",
    ),
    "wrong choice": (
        CONFIG, "# selection_split: test", "selection_split: tset",
        "selection_split: expected 'test' or 'validation' or null, got the text 'tset' (did you mean 'test'?)",
    ),
    "search of another kind": (
        CONFIG, "# search: full", "search: fast",
        "search: expected full, or a mapping such as {keep: [4, 2], at: [0.2, 0.4]}, got 'fast'",
    ),
    "search that keeps more later": (
        CONFIG, "# search: full", "search: {keep: [2, 5], at: [0.1, 0.4]}",
        "search.keep: the numbers must fall from round to round, got [2, 5]; write [5, 2]",
    ),
    "search that looks twice at once": (
        CONFIG, "# search: full", "search: {keep: [5, 2], at: [0.4, 0.4]}",
        "search.at: the numbers must rise from round to round, got [0.4, 0.4]; write [0.4]",
    ),
    "search that looks at the end": (
        CONFIG, "# search: full", "search: {keep: [5, 2], at: [0.1, 1.0]}",
        "search.at[1]: expected less than 1, got 1.0",
    ),
    "search that keeps nothing": (
        CONFIG, "# search: full", "search: {keep: [5, 0], at: [0.1, 0.4]}",
        "search.keep[1]: expected at least 1, got 0",
    ),
    "search with a round too few": (
        CONFIG, "# search: full", "search: {keep: [5, 2], at: [0.1]}",
        "search: keep has 2 rounds and at 1; give both as many numbers",
    ),
    "empty text": (CONFIG, "store: results", "store: ''", "store: expected at least 1 character, got the text ''"),
    "key given twice": (
        CONFIG, "scale: demo.*", "scale: demo\nscale: paper", "scale: key given twice (lines 2 and 3); keep one",
    ),
    "empty config": (
        CONFIG, WHOLE, "# nothing\n",
        "the file is empty; it must hold keys out of: scale, report_items, seeds, protocol, selection_split, search, "
        "store, rehearsal, tracking, copies",
    ),
    "bracket not closed": (
        CONFIG, "scale: demo", "scale: [demo",
        "line 3, column 1: not valid YAML: did not find expected ',' or ']'",
    ),
}  # fmt: skip

IN_SCALE: dict[str, Edit] = {
    "misspelt key three levels down": (
        SCALE, "connector:(.*\n)+?    warmup_ratio", r"\g<0>n",
        "connector.schedule.warmup_ration: unknown key (did you mean connector.schedule.warmup_ratio?)",
    ),
    "misspelt key in braces": (
        SCALE, "rank: 8", "rnk: 8", "methods.lora.lora.rnk: unknown key (did you mean methods.lora.lora.rank?)",
    ),
    "power of ten that YAML takes for text": (
        SCALE, r"  learning_rate: \S+", "  learning_rate: 5e-3",
        "connector.learning_rate: expected a number, got the text '5e-3'; write 5.0e-3 (YAML takes 5e-3 for text)",
    ),
    "the same in a list": (
        SCALE, RATES, "finetune: {learning_rates: [2.0e-3, 1e-4]",
        "methods.finetune.learning_rates[1]: expected a number, got the text '1e-4'; write 1.0e-4 "
        "(YAML takes 1e-4 for text)",
    ),
    "negative rate": (
        SCALE, RATES, "finetune: {learning_rates: [-2.0e-3]",
        "methods.finetune.learning_rates[0]: expected more than 0, got -0.002",
    ),
    "no rate": (
        SCALE, RATES, "finetune: {learning_rates: []",
        "methods.finetune.learning_rates: expected at least 1 entry, got an empty list",
    ),
    "rate without a list": (
        SCALE, RATES, "finetune: {learning_rates: 0.002",
        "methods.finetune.learning_rates: expected a list, got 0.002; write [0.002] for a list of one",
    ),
    "rate given twice": (
        SCALE, RATES, "finetune: {learning_rates: [0.1, 0.02, 0.1]",
        "methods.finetune.learning_rates[2]: 0.1 is also methods.finetune.learning_rates[0]; "
        "change or remove one",
    ),
    "method that does not exist": (
        SCALE, "  finetune: {learning", "  fintune: {learning",
        "methods.fintune: unknown method 'fintune' (did you mean 'finetune'?; known: finetune, lora, attn-qv, "
        "attn-mlp, layernorm, layernorm-simp, connector-only, layernorm-without-connector, layernorm-all)",
    ),
    "lora without its settings": (
        SCALE, r", lora: \{.*?\}", "",
        "methods.lora.lora: missing key; add it, such as {rank: 64, alpha: 128, dropout: 0.0}",
    ),
    "lora's settings elsewhere": (
        SCALE, RATES, r"\g<0>, lora: {rank: 8, alpha: 16, dropout: 0.0}",
        "methods.finetune.lora: only the method lora takes these settings; remove them",
    ),
    "dropout of one": (
        SCALE, "dropout: 0.0", "dropout: 1.0", "methods.lora.lora.dropout: expected less than 1, got 1.0",
    ),
    "bfloat16 weights without DeepSpeed": (
        SCALE, "\nsimilarity:", "\nmeasure: {precision: bf16-weights}\nsimilarity:",
        "measure.precision: bf16-weights needs execution.engine: deepspeed, or take bf16",
    ),
    "fraction of a batch": (
        SCALE, "    global_batch: 32", "    global_batch: 32.5",
        "connector.schedule.global_batch: expected a whole number, got 32.5",
    ),
    "truth in quotes": (
        SCALE, "  cache_features: true", "  cache_features: 'true'",
        "execution.cache_features: expected true or false, got the text 'true'; write true without quotes",
    ),
    "word for a number": (
        SCALE, r"set: pretrain, images: \d+", "set: pretrain, images: many",
        "sources.pretrain.draw.images: expected a whole number, got the text 'many'",
    ),
    "no images": (
        SCALE, r"set: pretrain, images: \d+", "set: pretrain, images: 0",
        "sources.pretrain.draw.images: expected at least 1, got 0",
    ),
    "drawn set that does not exist": (
        SCALE, "set: flickr30k", "set: flicker30k",
        "sources.flickr30k.draw.set: unknown drawn set 'flicker30k' (did you mean 'flickr30k'?; known: coco, "
        "flickr30k, instruct, mme, pope, pretrain, vqav2)",
    ),
    "both drawn and fetched": (
        SCALE, r"instruct: \{draw", "instruct: {fetch: demo-clip, draw",
        "sources.instruct: give exactly one of draw and fetch",
    ),
    "neither drawn nor fetched": (
        SCALE, r"instruct: \{draw: .*", "instruct: {}", "sources.instruct: give exactly one of draw and fetch",
    ),
    "fetched under a name that the catalogue lacks": (
        SCALE, r"instruct: \{draw: .*", "instruct: {fetch: nowhere}",
        "sources.instruct.fetch: unknown catalogue entry 'nowhere' (known: ",
    ),
    "questions about images that nobody draws": (
        SCALE, r"  coco: \{draw.*\n", "",
        "sources.vqav2.draw.set: vqav2 asks about the images of a source named coco; "
        "add coco: {draw: {set: coco, images: ...}}",
    ),
    "weights that the catalogue lacks": (
        SCALE, "weights: demo-vicuna-7b", "weights: demo-vicuna",
        "llms.vicuna-7b.weights: unknown catalogue entry 'demo-vicuna' (did you mean 'demo-vicuna-7b'?; known: ",
    ),
    "unknown template": (
        SCALE, "template: v1", "template: v2",
        "llms.vicuna-7b.template: expected 'plain', 'v0', 'vicuna_v0', 'v1', 'llama_2' or 'chat', got the text 'v2'",
    ),
    "two LLMs of one title": (
        SCALE, "title: MM-LLAMA2-7B", "title: MM-VICUNA-7B",
        "llms.llama2-7b.title: 'MM-VICUNA-7B' is also llms.vicuna-7b.title; change or remove one",
    ),
    "unknown library": (
        SCALE, "library: timm", "library: tim",
        "visions.imagenet-vit.library: expected 'open_clip' or 'timm', got the text 'tim' (did you mean 'timm'?)",
    ),
    "unknown vision encoder": (
        SCALE, "vision: clip", "vision: clpi",
        "vision: unknown vision encoder 'clpi' (did you mean 'clip'?; known: clip, imagenet-vit)",
    ),
    "unknown source": (
        SCALE, "source: pretrain", "source: pretrian",
        "data.connector.source: unknown source 'pretrian' (did you mean 'pretrain'?; known: ",
    ),
    "unknown training set": (
        SCALE, "  data: connector", "  data: conector",
        "connector.data: unknown training set 'conector' (did you mean 'connector'?; known: connector, ",
    ),
    "unknown type": (
        SCALE, r"types: \[conversation\]", "types: [conversations]",
        "data.Conv.20K.types[0]: expected 'conversation', 'detail' or 'complex_reasoning', "
        "got the text 'conversations' (did you mean 'conversation'?)",
    ),
    "types of a set that has none": (
        SCALE, "format: llava-pretrain", "format: llava-pretrain, types: [detail]",
        "data.connector: types are those of llava-instruct; leave them out for llava-pretrain",
    ),
    "a format that the source is not in": (
        SCALE, "source: pretrain", "source: instruct",
        "data.connector.source: the source 'instruct' draws instruct, the format llava-pretrain needs pretrain; "
        "name pretrain",
    ),
    "unknown benchmark": (
        SCALE, r"  mme: \[mme\]", "  mmee: [mme]",
        "benchmarks.mmee: unknown benchmark 'mmee' (did you mean 'mme'?; known: mme, vqav2, mscoco, flickr30k, pope)",
    ),
    "benchmark without a source": (
        SCALE, r"  mme: \[mme\]", "  mme: []",
        "benchmarks.mme: expected one or two sources (of the questions, of the images), got 0; "
        "write mme: [mme] with your sources' names",
    ),
    "benchmark left out": (
        SCALE, r"  pope: \[pope, coco\]\n", "",
        "benchmarks.pope: expected one or two sources (of the questions, of the images), got 0; "
        "write pope: [pope, coco] with your sources' names",
    ),
    "benchmark over another set's images": (
        SCALE, r"  pope: \[pope, coco\]", "  pope: [pope, flickr30k]",
        "benchmarks.pope[1]: the source 'flickr30k' draws flickr30k, pope needs coco; name coco",
    ),
    "sweep of a method that is none": (
        SCALE, r"  layernorm-simp: \[4", "  layernorm-smp: [4",
        "sweeps.layernorm-smp: unknown method 'layernorm-smp' (did you mean 'layernorm-simp'?; known: ",
    ),
    "sweep without a rate": (
        SCALE, r"  layernorm-simp: \[4.*\]", "  layernorm-simp: []",
        "sweeps.layernorm-simp: expected at least 1 entry, got an empty list",
    ),
    "rate twice in a sweep": (
        SCALE, r"  layernorm-simp: \[4.0e-2", "  layernorm-simp: [4.0e-2, 4.0e-2",
        "sweeps.layernorm-simp[1]: 0.04 is also sweeps.layernorm-simp[0]; change or remove one",
    ),
    "tokens that there are not": (
        SCALE, "tokens: all", "tokens: every",
        "similarity.tokens: expected 'all', 'image', 'text' or 'last', got the text 'every'",
    ),
    "benchmark whose questions nobody asks": (
        SCALE, "benchmark: mscoco", "benchmark: coco",
        "similarity.benchmark: unknown benchmark 'coco' (did you mean 'mscoco'?; known: mme, vqav2, mscoco, flickr30k, "
        "pope)",
    ),
    "no questions": (
        SCALE, r"mscoco, questions: \d+", "mscoco, questions: 0",
        "similarity.questions: expected at least 1, got 0",
    ),
    "unknown stage": (
        SCALE, r"  default: \{", "  stages: {finetun: {threads: 2}}\n  default: {",
        "execution.stages.finetun: unknown stage 'finetun' (did you mean 'finetune'?; known: ",
    ),
    "memory with a unit": (
        SCALE, r"mem_mb: \d+", "mem_mb: 1.5GB",
        "execution.default.mem_mb: expected a whole number, got the text '1.5GB'",
    ),
    "tab": (
        SCALE, "\nconnector:\n  data", "\nconnector:\n\tdata",
        "not valid YAML: found character that cannot start any token; indent with spaces, not tabs",
    ),
}  # fmt: skip

ELSEWHERE: dict[str, Edit] = {
    "misspelt key in the protocol": (
        PROTOCOL, "pope: {prompt", "pope: {promt",
        "benchmarks.pope.promt: unknown key (did you mean benchmarks.pope.prompt?)",
    ),
    "captions of no length": (
        PROTOCOL, "most_words: 25", "most_words: 1",
        "benchmarks.captions.format: no caption has 2 words or more (least_words) and 1 (most_words) or fewer; lower "
        "least_words",
    ),
    "negative temperature": (
        PROTOCOL, r"temperature: \S+", "temperature: -1", "temperature: expected at least 0, got -1",
    ),
    "template that does not exist": (
        PROTOCOL, r"template: \S+", "template: vicuna",
        "template: expected 'plain', 'v0', 'vicuna_v0', 'v1', 'llama_2' or 'chat' or null, got the text 'vicuna' "
        "(did you mean 'vicuna_v0'?)",
    ),
    "word for all": (
        PROTOCOL, "questions: null", "questions: all",
        "benchmarks.vqav2.questions: expected a whole number or null, got the text 'all'",
    ),
    "prompt without the question": (
        PROTOCOL, 'pope: {prompt: "{question}"', "pope: {prompt: Look!",
        "benchmarks.pope.prompt: must hold {question}, got the text 'Look!'",
    ),
    "prompt with another field": (
        PROTOCOL, 'pope: {prompt: "{question}"', 'pope: {prompt: "{question} {image}"',
        "benchmarks.pope.prompt: its only field must be {question}, got '{question} {image}'; "
        "write other braces twice, as {{ and }}",
    ),
    "subtask that MME has not": (
        PROTOCOL, "existence,", "existense,",
        "benchmarks.mme.subtasks: unknown MME subtask 'existense' (did you mean 'existence'?; known: existence, ",
    ),
    "subtask twice": (
        PROTOCOL, "existence,", "existence, count,",
        "benchmarks.mme.subtasks: 'count' is given twice; remove one",
    ),
    "shot without an answer": (
        PROTOCOL, "max_new_tokens: 40", "max_new_tokens: 40\n    shots: [{question: What}]",
        "benchmarks.captions.shots[0].answer: missing key; add it (text)",
    ),
    "empty protocol": (PROTOCOL, WHOLE, "", "the file is empty; it must hold keys out of: note, template, "),
    "misspelt key in a row": (
        TABLE, "method: layernorm, data: 80K", "methode: layernorm, data: 80K",
        "rows[1].methode: unknown key (did you mean rows[1].method?)",
    ),
    "unknown method in a row": (
        TABLE, "method: layernorm, data: 80K", "method: layernrom, data: 80K",
        "rows[1].method: unknown method 'layernrom' (did you mean 'layernorm'?; known: ",
    ),
    "unknown training set in a row": (
        TABLE, "method: layernorm, data: 80K", "method: layernorm, data: 80k",
        "rows[1].data: unknown training set '80k' (did you mean '80K'?; known: ",
    ),
    "unknown vision encoder in a row": (
        TABLE, "method: layernorm, data: 80K", "method: layernorm, data: 80K, vision: vit",
        "rows[1].vision: unknown vision encoder 'vit' (known: clip, imagenet-vit)",
    ),
    "wrong truth in a row": (
        TABLE, "method: layernorm, data: 80K", "method: layernorm, data: 80K, blind: maybe",
        "rows[1].blind: expected true or false, got the text 'maybe'",
    ),
    "unknown llm": (
        TABLE, r"llms: \[vicuna-7b", "llms: [vicuna",
        "llms[0]: unknown llm 'vicuna' (did you mean 'vicuna-7b'?; known: ",
    ),
    "unknown column": (
        TABLE, r"columns: \[MME", "columns: [MEM",
        "columns[0]: unknown column 'MEM' (did you mean 'MME'?; known: MME, VQAv2, MSCOCO, Flickr30k, POPE, Mem. (GB), "
        "#param., Similarity)",
    ),
    "column twice": (
        TABLE, r"columns: \[MME", "columns: [POPE",
        "columns[4]: 'POPE' is also columns[0]; change or remove one",
    ),
    "title twice": (
        TABLE, "title: LayerNorm-80K", "title: Finetune-80K",
        "rows[1].title: 'Finetune-80K' is also rows[0].title; change or remove one",
    ),
    "negative bytes": (
        CATALOG, WHOLE, CLIP_FILE % f"bytes: -1, sha256: {'0' * 64}",
        "entries.demo-clip.files.m.json.bytes: expected at least 0 or null, got -1",
    ),
    "short sha256": (
        CATALOG, WHOLE, CLIP_FILE % "bytes: 1, sha256: abc",
        "entries.demo-clip.files.m.json.sha256: expected text of the form ^[0-9a-f]{64}$ or null, got the text 'abc'",
    ),
    "entry without files": (
        CATALOG, WHOLE, "entries: {demo-clip: {about: a, licence: b, files: {}}}\n",
        "entries.demo-clip.files: expected at least 1 entry, got a mapping",
    ),
    "catalogue as a list": (CATALOG, WHOLE, "- a\n", "expected a mapping (key: value), got a list"),
}  # fmt: skip

MISTAKES = {
    f"{Path(edit[0]).stem}: {name}": edit
    for name, edit in {**IN_CONFIG, **IN_SCALE, **ELSEWHERE, **IN_REPORT_ITEMS}.items()
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the checkout's YAML and rules, without the weights."""
    for name in ("config.yaml", "Snakefile"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow", ignore=shutil.ignore_patterns("weights"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(root: Path, edit: Edit) -> None:
    """Make one mistake."""
    path = root / edit[0]
    text, number = re.subn(edit[1], edit[2], path.read_text(), count=1)
    assert number == 1, f"{edit[1]!r} does not stand in {edit[0]}"
    path.write_text(text)


def check(said: str, edit: Edit) -> None:
    """The line names the file and says what is expected; it may go on only where names are listed."""
    file, _, _, expected = edit
    assert "\n" not in said
    assert said.startswith(f"{file}: ")
    rest = said.removeprefix(f"{file}: ")
    if expected.startswith("not valid YAML"):  # the line's number is not the point
        rest = re.sub(r"^line \d+, column \d+: ", "", rest)
    assert rest.startswith(expected)
    assert rest == expected or expected.endswith((": ", ", ")), "more is said than expected"


def read_all(root: Path) -> list[str]:
    """Read everything and plan every table, as Snakemake does before any job; return the tables."""
    study = Study.read(root)
    plan = Plan(study)
    return [plan.report_item(name).label for name in study.report_items()]


def test_the_copy_without_a_mistake_is_planned(root: Path) -> None:
    assert {"table1", "table3"} <= set(read_all(Path(".")))


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_one_clear_line(name: str, root: Path) -> None:
    make(root, MISTAKES[name])
    with pytest.raises(UserError) as raised:
        read_all(Path("."))
    check(str(raised.value), MISTAKES[name])


def test_there_are_enough_mistakes_of_every_file() -> None:
    files = [edit[0] for edit in MISTAKES.values()]
    assert len(files) >= 25
    assert {CONFIG, SCALE, PROTOCOL, TABLE, LITERATURE, COSTS, SWEPT, CATALOG} < set(files)


def test_a_mistake_in_a_table_that_is_not_asked_for_stops_nothing(root: Path) -> None:
    make(root, (CONFIG, REPORT_ITEMS, "report_items: [table1]", ""))
    make(root, (TABLE, r"llms: \[vicuna-7b", "llms: [vicuna", ""))
    plan = Plan(Study.read(Path(".")))
    assert plan.report_item("table1").stage == "table"
    with pytest.raises(UserError, match=r"^workflow/report_items/table3\.yaml: llms\[0\]: unknown llm 'vicuna'"):
        plan.report_item("table3")
    with pytest.raises(UserError, match=r"^table9: there is no such table or figure; there are .*table1, table2"):
        plan.report_item("table9")


def test_missing_files_are_named(root: Path) -> None:
    (root / CATALOG).unlink()
    with pytest.raises(UserError, match=r"^workflow/catalog\.yaml: no such file; `git restore` "):
        Study.read(Path("."))
    (root / CONFIG).unlink()
    with pytest.raises(UserError, match=r"^config\.yaml: no such file; `git restore` "):
        Study.read(Path("."))


@pytest.mark.parametrize(
    "name",
    ["config: misspelt key", "demo: power of ten that YAML takes for text", "table3: unknown method in a row"],
)
def test_snakemake_stops_with_that_line_before_any_job(name: str, root: Path) -> None:
    make(root, MISTAKES[name])
    done = run_python(root, os.environ | {"PYTHONPATH": str(ROOT / "src")}, "snakemake", "-n")
    assert done.returncode == 1
    printed = done.stdout.splitlines()
    errors = [line for line in printed if line.startswith("error: ")]
    assert len(errors) == 1
    check(errors[0].removeprefix("error: "), MISTAKES[name])
    assert not any("Traceback" in line or "Exception" in line or "Job stats" in line for line in printed)
    assert not (root / "results").exists()
