"""The paper's models as shapes without weights: CLIP ViT-L/14 at 224 pixels, a linear connector, LLaMA 7B or
13B.

Everything lies on PyTorch's meta device, so that parameters are counted in a second and without a download. Vicuna v1.1
and LLaMA 2 have the same shapes at 7B, chat models those of their base.
"""

import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaForCausalLM

from lntune.estimate.shapes import LLMS
from lntune.estimate.training_step import llm_config
from lntune.model.multimodal import MultimodalModel


def paper_model(scale: str) -> MultimodalModel:
    """The multi-modal model at "7B" or "13B", on the meta device."""
    with torch.device("meta"):
        vision, llm = clip_config(), llm_config(LLMS[scale], "sdpa")
        connector = nn.Linear(vision.hidden_size, llm.hidden_size)
        return MultimodalModel(CLIPVisionModel(vision), connector, LlamaForCausalLM(llm))


def clip_config() -> CLIPVisionConfig:
    """CLIP ViT-L/14 at 224 pixels (openai/clip-vit-large-patch14), the vision tower alone."""
    return CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        patch_size=14,
        image_size=224,
    )
