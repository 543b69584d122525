"""Turns a GGUF file into an LLM's folder with its tokenizer: ``python prediction_smollm2.py FILE FOLDER``."""

import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, GgufConfig, LlamaForCausalLM

from races.workers import serve


def convert(file: Path, folder: Path) -> dict[str, object]:
    """Write config.json, safetensors in float32 and tokenizer.json."""
    model = LlamaForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
    return {}


if __name__ == "__main__":
    serve(lambda: convert(Path(sys.argv[1]), Path(sys.argv[2])))
