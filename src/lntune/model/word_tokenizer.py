"""The demo's tokenizer: whole words of a closed vocabulary, as a Hugging Face tokenizer file.

Words are lower-cased; a mark is a token of its own, ``###`` is one, and so is a line's end, which ends a caption in
the plain template.
"""

import json
from collections.abc import Iterable
from pathlib import Path

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
_PIECES = r"\n|\w+|#+|[^\w\s#]"


def save_tokenizer(folder: Path, texts: Iterable[str]) -> int:
    """Write tokenizer.json and tokenizer_config.json for every word in ``texts``; return the vocabulary's size."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    split = pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True)
    words = {word for text in texts for word, _ in split.pre_tokenize_str(text.lower())}
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, "\n", *sorted(words - {"\n"})])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = split
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "model_max_length": 512,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    return len(vocabulary)
