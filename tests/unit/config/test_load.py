"""Every mistake in a config is one line that names file, key, value and remedy."""

from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field, field_validator

from lntune.config import Frozen
from lntune.config.load import files_extended, load, load_extending, read_yaml, unknown_name
from lntune.errors import UserError


class Precision(Enum):
    FP32 = "fp32"
    BF16 = "bf16"


class Train(Frozen):
    method: Literal["lora", "finetune", "layernorm"]
    learning_rate: float = Field(gt=0, lt=1)
    epochs: float = Field(default=1.0, gt=0)
    global_batch: int = Field(default=8, ge=1)
    rates: tuple[float, ...] = Field(default=(1e-3,), min_length=1)
    name: str = Field(default="x", pattern="^[a-z]+$")
    shuffle: bool = True
    folder: Path = Path(".")
    precision: Precision = Precision.FP32


class Vision(Frozen):
    library: Literal["open_clip", "timm"]
    pool: str


class Table(Frozen):
    title: str
    rows: tuple[int, ...] = ()


class Config(Frozen):
    seed: int
    train: Train
    vision: Vision | None = None
    tables: tuple[Table, ...] = ()
    models: dict[str, Table] = Field(default={})
    shots: dict[Literal["flickr30k", "coco"], int] = Field(default={})

    @field_validator("seed")
    @classmethod
    def refuse_thirteen(cls, seed: int) -> int:
        if seed == 13:
            raise ValueError("13 is not a lucky seed; take another")
        return seed


GOOD = "seed: 1\ntrain:\n  method: lora\n  learning_rate: 0.1\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def message(text: str, folder: Path, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        load(write(folder, text), Config, overrides)
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_a_good_file_becomes_the_model(tmp_path: Path) -> None:
    text = GOOD + "  rates: [1, 1.0e-4]\n  folder: a/b\n  precision: bf16\nshots: {coco: 2}\n"
    config = load(write(tmp_path, text), Config)
    assert config.train == Train(
        method="lora", learning_rate=0.1, rates=(1.0, 0.0001), folder=Path("a/b"),
        precision=Precision.BF16,
    )  # fmt: skip
    assert config.shots == {"coco": 2}


def test_overrides_win_nested_or_dotted(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "models:\n  v1.5: {title: t}\n")
    overrides = {"train.epochs": 2.0, "train": {"method": "finetune"}, "models.v1.5.title": "new"}
    config = load(path, Config, overrides)
    assert (config.train.epochs, config.train.method, config.train.learning_rate) == (2.0, "finetune", 0.1)
    assert config.models == {"v1.5": Table(title="new")}


LORA = "seed: 1\ntrain:\n  method: "
METHODS = "expected 'lora', 'finetune' or 'layernorm'"
NUMBER = "expected a number, got the text"
WHOLE = "expected a whole number, got"
MISTAKES = {
    "typo in a key": (
        "seed: 1\ntrain:\n  metod: lora\n  learning_rate: 0.1\n",
        "train.metod: unknown key (did you mean train.method?)",
    ),
    "key in the wrong place": (
        GOOD + "learning_rate: 0.2\n",
        "learning_rate: unknown key (did you mean train.learning_rate?)",
    ),
    "unlike any key": (
        GOOD + "vision: {library: timm, pool: x, zzz: 1}\n",
        "vision.zzz: unknown key (known here: library, pool)",
    ),
    "typo in a list's entry": (
        GOOD + "tables:\n- title: a\n- titel: b\n",
        "tables[1].titel: unknown key (did you mean tables[1].title?)",
    ),
    "key missing": (LORA + "lora\n", "train.learning_rate: missing key; add it (a number)"),
    "choice missing": (
        "seed: 1\ntrain: {learning_rate: 0.1}\n",
        "train.method: missing key; add it ('lora' or 'finetune' or 'layernorm')",
    ),
    "wrong choice": (
        GOOD.replace("lora", "loar"),
        f"train.method: {METHODS}, got the text 'loar' (did you mean 'lora'?)",
    ),
    "wrong capitals": (
        GOOD.replace("lora", "LoRA"),
        f"train.method: {METHODS}, got the text 'LoRA' (did you mean 'lora'?)",
    ),
    "wrong enum": (
        GOOD + "  precision: bf61\n",
        "train.precision: expected 'fp32' or 'bf16', got the text 'bf61' (did you mean 'bf16'?)",
    ),
    "1e-4 is text in YAML": (
        GOOD.replace("0.1", "1e-4"),
        f"train.learning_rate: {NUMBER} '1e-4'; write 1.0e-4 (YAML takes 1e-4 for text)",
    ),
    "2.5e5 is text in YAML": (
        GOOD + "  epochs: 2.5e5\n",
        f"train.epochs: {NUMBER} '2.5e5'; write 2.5e+5 (YAML takes 2.5e5 for text)",
    ),
    "1e-4 in a list": (
        GOOD + "  rates: [0.1, 1e-4]\n",
        f"train.rates[1]: {NUMBER} '1e-4'; write 1.0e-4 (YAML takes 1e-4 for text)",
    ),
    "quoted number": (
        GOOD + "  global_batch: '8'\n",
        f"train.global_batch: {WHOLE} the text '8'; write 8 without quotes or leading zeros",
    ),
    "fraction": (GOOD + "  global_batch: 1.5\n", f"train.global_batch: {WHOLE} 1.5"),
    "word": (GOOD + "  global_batch: many\n", f"train.global_batch: {WHOLE} the text 'many'"),
    "truth for number": (GOOD + "  global_batch: true\n", f"train.global_batch: {WHOLE} true"),
    "octal": (
        GOOD + "  global_batch: 010\n",
        f"train.global_batch: {WHOLE} the text '010'; write 10 without quotes or leading zeros",
    ),
    "below": (GOOD + "  epochs: 0\n", "train.epochs: expected more than 0, got 0"),
    "under a limit that counts": (
        GOOD + "  global_batch: 0\n",
        "train.global_batch: expected at least 1, got 0",
    ),
    "above": (GOOD.replace("0.1", "3"), "train.learning_rate: expected less than 1, got 3"),
    "no text": (GOOD + '  name: "a\\0b"\n', "train.name: holds '\\x00', which neither CSV nor SVG can hold as text"),
    "a carriage return": (
        GOOD + '  name: "a\\rb"\n',
        "train.name: holds '\\r', which neither CSV nor SVG can hold as text",
    ),
    "not finite": (GOOD + "  epochs: .nan\n", "train.epochs: expected a finite number, got nan"),
    "no list": (
        GOOD + "  rates: 0.1\n",
        "train.rates: expected a list, got 0.1; write [0.1] for a list of one",
    ),
    "empty list": (GOOD + "  rates: []\n", "train.rates: expected at least 1 entry, got an empty list"),
    "mapping for list": (GOOD + "tables: {title: x}\n", "tables: expected a list, got a mapping"),
    "list for mapping": (
        GOOD + "models:\n  a: [3]\n",
        "models.a: expected a mapping (key: value), got the list [3]",
    ),
    "yes for text": (
        GOOD + "  name: yes\n",
        "train.name: expected text, got true; YAML takes a bare yes, no, on or off for true or false: put it in quotes",
    ),
    "number for text": (GOOD + "  name: 5\n", "train.name: expected text, got 5; write '5' in quotes"),
    "pattern": (GOOD + "  name: Abc\n", "train.name: expected text of the form ^[a-z]+$, got the text 'Abc'"),
    "no value": (GOOD + "  name:\n", "train.name: expected text, got nothing; write a value after the colon"),
    "text for truth": (
        GOOD + "  shuffle: 'true'\n",
        "train.shuffle: expected true or false, got the text 'true'; write true without quotes",
    ),
    "key of a mapping by choice": (
        GOOD + "shots: {coco: 1, cocoa: 2}\n",
        "shots.cocoa: expected 'flickr30k' or 'coco', got the text 'cocoa' (did you mean 'coco'?)",
    ),
    "a validator's own words": (
        GOOD.replace("seed: 1", "seed: 13"),
        "seed: 13 is not a lucky seed; take another",
    ),
    "a date stays text": (GOOD + "  epochs: 2020-01-01\n", f"train.epochs: {NUMBER} '2020-01-01'"),
    "sixtieths stay text": (GOOD + "  epochs: 1:30\n", f"train.epochs: {NUMBER} '1:30'"),
    "key given twice": (
        GOOD + "  method: lora\n",
        "train.method: key given twice (lines 3 and 5); keep one",
    ),
    "key given twice in a list": (
        GOOD + "tables:\n- title: a\n  rows: [1]\n  title: b\n",
        "tables[0].title: key given twice (lines 6 and 8); keep one",
    ),
    "contains itself": (GOOD + "a: &a\n  b: *a\n", "a: nested too deeply (does it contain itself?)"),
    "several": (
        "seed: x\ntrain:\n  metod: lora\n  learning_rate: 1e-4\n",
        f"seed: {WHOLE} the text 'x' (and 2 more)",
    ),
    "empty": (
        "# nothing yet\n",
        "the file is empty; it must hold keys out of: seed, train, vision, tables, models, shots",
    ),
    "a list": ("- a\n- b\n", "expected a mapping (key: value), got a list"),
    "a mapping as key": (GOOD + "{a: 1}: 2\n", "line 5, column 1: not valid YAML: a key must be text"),
    "syntax": ("seed: x: 1\n", "line 1, column 8: not valid YAML: mapping values are not allowed in this context"),
    "tab": (
        "seed: 1\n\ttrain: 2\n",
        "line 2, column 1: not valid YAML: found a tab character that violates indentation; "
        "indent with spaces, not tabs",
    ),
    "object": (
        "seed: !!python/object:os.system 1\n",
        "line 1, column 7: not valid YAML: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object:os.system'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_one_clear_line(name: str, tmp_path: Path) -> None:
    text, expected = MISTAKES[name]
    assert message(text, tmp_path) == f"config.yaml: {expected}"


def test_mistakes_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "train:\n  learning_rate: 7\n  method: x\nseed: y\n"
    assert message(text, tmp_path) == "config.yaml: train.learning_rate: expected less than 1, got 7 (and 2 more)"


def test_an_override_is_told_from_the_file(tmp_path: Path) -> None:
    said = message(GOOD, tmp_path, {"train.epochs": -1})
    assert said == "config.yaml: train.epochs: expected more than 0, got -1 [given as an override]"
    assert message(GOOD, tmp_path, {"sed": 2}).startswith("config.yaml: sed: unknown key (did you mean seed?)")


def test_keys_are_text_and_merging_works(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\non: 1\n7: 2\n"
    assert read_yaml(write(tmp_path, text)) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "on": 1, "7": 2}


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, said in (
        (Path("absent.yaml"), "absent.yaml: no such file; `git restore` brings back what the repository holds"),
        (tmp_path / "folder", "folder: cannot be read (Is a directory)"),
        (tmp_path / "latin.yaml", "latin.yaml: byte 3 is not UTF-8; save the file as UTF-8"),
    ):
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
        with pytest.raises(UserError) as caught:
            load(path, Config)
        assert str(caught.value) == said


def test_a_name_that_nothing_bears() -> None:
    error = unknown_name(Path("config.yaml"), "train.method", "loar", ["lora", "finetune"], "method")
    assert str(error) == (
        "config.yaml: train.method: unknown method 'loar' (did you mean 'lora'?; known: lora, finetune)"
    )
    far = unknown_name(Path("config.yaml"), "llm", "gpt", ["vicuna-7b"], "model")
    assert str(far) == "config.yaml: llm: unknown model 'gpt' (known: vicuna-7b)"


class Scale(Frozen):
    note: str
    llms: dict[str, Vision]
    train: Train
    rates: tuple[float, ...] = ()


BASE = """\
note: all
llms: {a: {library: timm, pool: x}, b: {library: timm, pool: y}}
train: {method: lora, learning_rate: 0.1, epochs: 3}
rates: [0.1, 0.2]
"""


def scales(folder: Path, **files: str) -> Path:
    """The last of these scales, in one folder with the others and the one that is called base."""
    for name, text in {"base": BASE, **files}.items():
        path = folder / f"{name}.yaml"
        path.write_text(text)
    return path


def test_a_file_builds_on_another_and_tells_what_differs(tmp_path: Path) -> None:
    lean = "extends: base\nnote: lean\ntrain: {epochs: 1}\nrates: [0.3]\n"
    pilot = scales(tmp_path, lean=lean, pilot="extends: lean\nllms: {a: {pool: z}, b: null}\n")
    found, base = load_extending(pilot, Scale), load(tmp_path / "base.yaml", Scale)
    changed = base.train.model_copy(update={"epochs": 1.0})
    assert found == Scale(note="lean", llms={"a": Vision(library="timm", pool="z")}, train=changed, rates=(0.3,))
    assert [path.stem for path in files_extended(pilot)] == ["pilot", "lean", "base"]
    assert load_extending(tmp_path / "base.yaml", Scale) == base


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"a": "extends: bsae\n"}, "a.yaml: extends: unknown file 'bsae' (did you mean 'base'?; known: a, base)"),
        ({"b": "extends: a\n", "a": "extends: b\n"}, "b.yaml: extends: a is built on this file itself; name another"),
        ({"a": "extends: base\ntrain: {epochs: no}\n"}, "a.yaml: train.epochs: expected a number, got false"),
        ({"b": "extends: base\nnoet: x\n", "a": "extends: b\n"}, "b.yaml: noet: unknown key (did you mean note?)"),
        ({"a": "extends: base\ntrain: null\n"}, "a.yaml: train: missing key; add it (a mapping (key: value))"),
    ],
)
def test_a_mistake_is_told_of_the_file_that_makes_it(
    files: dict[str, str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = scales(tmp_path, **files)
    with pytest.raises(UserError) as raised:
        load_extending(path, Scale)
    assert str(raised.value) == line
