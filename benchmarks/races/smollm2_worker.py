"""Turns a GGUF file into a folder that any contestant loads: ``python smollm2_worker.py FILE FOLDER``."""

import sys
from pathlib import Path

import torch
from transformers import GgufConfig, LlamaForCausalLM

from races.workers import serve


def convert(file: Path, folder: Path) -> dict[str, object]:
    """Write config.json and safetensors in float32."""
    model = LlamaForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(folder)
    return {}


if __name__ == "__main__":
    serve(lambda: convert(Path(sys.argv[1]), Path(sys.argv[2])))
