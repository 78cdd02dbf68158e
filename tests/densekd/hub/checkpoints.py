"""Small, randomly initialised checkpoints in the formats of the families of transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as tf

VIT: dict[str, Any] = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
TOWER: dict[str, Any] = dict(**VIT, intermediate_size=64, patch_size=8, image_size=32)
TEXT: dict[str, Any] = dict(
    VIT, intermediate_size=32, num_hidden_layers=1, vocab_size=50, bos_token_id=0, eos_token_id=1
)
PYRAMID: dict[str, Any] = dict(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])
SAM: dict[str, Any] = dict(TOWER, image_size=64, output_channels=16, mlp_dim=64, window_size=2, global_attn_indexes=[1])


def _sam() -> tf.PreTrainedModel:
    vision = {key: value for key, value in SAM.items() if key != "intermediate_size"}
    prompt = dict(hidden_size=16, image_size=64, patch_size=8)
    decoder = dict(hidden_size=16, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16)
    return tf.SamModel(tf.SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder))


def _mask2former() -> tf.PreTrainedModel:
    stages = ["stage1", "stage2", "stage3", "stage4"]
    swin = tf.SwinConfig(embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=4, out_features=stages)
    widths = dict(feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=32, dim_feedforward=32)
    layers = dict(encoder_layers=1, decoder_layers=2, num_attention_heads=2, num_queries=5)
    return tf.Mask2FormerForUniversalSegmentation(tf.Mask2FormerConfig(backbone_config=swin, **widths, **layers))


MODELS: dict[str, Callable[[], tf.PreTrainedModel]] = {
    "dinov2": lambda: tf.Dinov2Model(tf.Dinov2Config(**VIT, patch_size=14, image_size=56)),
    "dinov2_with_registers": lambda: tf.Dinov2WithRegistersModel(
        tf.Dinov2WithRegistersConfig(**VIT, patch_size=14, image_size=56, num_register_tokens=4)
    ),
    "dinov3_vit": lambda: tf.DINOv3ViTModel(
        tf.DINOv3ViTConfig(**VIT, intermediate_size=64, patch_size=16, image_size=64, num_register_tokens=4)
    ),
    "dinov3_convnext": lambda: tf.DINOv3ConvNextModel(tf.DINOv3ConvNextConfig(**PYRAMID)),
    "clip": lambda: tf.CLIPModel(tf.CLIPConfig(text_config=TEXT, vision_config=TOWER)),
    "clip_vision_model": lambda: tf.CLIPVisionModel(tf.CLIPVisionConfig(**TOWER)),
    "siglip": lambda: tf.SiglipModel(tf.SiglipConfig(text_config=TEXT, vision_config=TOWER)),
    "siglip_vision_model": lambda: tf.SiglipVisionModel(tf.SiglipVisionConfig(**TOWER)),
    "sam": _sam,
    "segformer": lambda: tf.SegformerForSemanticSegmentation(
        tf.SegformerConfig(**PYRAMID, num_attention_heads=[1, 1, 2, 2])
    ),
    "mask2former": _mask2former,
}


def saved(family: str, folder: Path, **options: Any) -> tf.PreTrainedModel:
    """Save a random model of a family, as its authors' own are saved, and return it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS[family]().eval()
    model.save_pretrained(folder, **options)
    return model
