"""The parts of a model folder beside the network, made of published weights, each strictly name by name."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from cyberhost_model.errors import ModelError
from cyberhost_model.hub.tensors import read_config, read_tensors
from cyberhost_model.perception.dwpose import DWPose


def save_vae(source: Path, out: Path, dtype: torch.dtype) -> None:
    """Convert a diffusers `AutoencoderKL` folder to the codec of a model. Raises ModelError."""
    from diffusers import AutoencoderKL

    try:
        vae, info = AutoencoderKL.from_pretrained(source, use_safetensors=True, output_loading_info=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{source}: no usable VAE ({str(error).splitlines()[0]}); fetch it again") from error
    if wrong := [*info["missing_keys"], *info["unexpected_keys"]]:
        raise ModelError(
            f"{source}: {len(wrong)} weights missing or unknown, such as {wrong[0]}; it is of another model"
        )
    vae.to(dtype).save_pretrained(out)


def save_speech(source: Path, out: Path, dtype: torch.dtype, by_frame: bool = False) -> None:
    """Convert a folder in the layout of wav2vec2-base or of Whisper to the speech encoder of a model.

    by_frame: wav2vec 2.0 hears a step for each video frame (`speech.by_frame`). Raises ModelError.
    """
    config = read_config(source / "config.json")
    if config.get("model_type") == "whisper":
        _save_whisper(source, config, out, dtype)
        return
    from cyberhost_model.speech.wav2vec2 import Wav2Vec2Encoder

    encoder = Wav2Vec2Encoder.from_pretrained(source)
    encoder.config = replace(encoder.config, by_frame=by_frame)
    encoder.save_pretrained(out, dtype)


def save_image_encoder(source: Path, out: Path, dtype: torch.dtype) -> None:
    """Convert a folder of transformers' `CLIPVisionModelWithProjection`, a pickle too, to the image encoder of a model.

    Raises ModelError.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = read_config(source / "config.json")
    kept = {
        name: value
        for name, value in config.items()
        if name not in ("architectures", "torch_dtype", "transformers_version")
    }
    clip = CLIPVisionModelWithProjection(CLIPVisionConfig(**kept))
    weights = read_tensors(next((f for f in source.glob("*.safetensors")), source / "pytorch_model.bin"))
    weights.pop("vision_model.embeddings.position_ids", None)  # 0, 1, 2, ...: older versions stored them
    _fill(clip, weights, source)
    clip.to(dtype).save_pretrained(out)


def copy_embedded(part: str, out: Path) -> None:
    """Copy `part` of the embedded model: its detector, or its speech encoder for a network without speech."""
    from cyberhost_model.config import EMBEDDED

    shutil.copytree(EMBEDDED / "tiny" / part, out)


def save_detector(source: str, out: Path) -> None:
    """Write the key point detector: "embedded" is copied, "dwpose" is named and fetched when the model is used."""
    if source == "embedded":
        copy_embedded("detector", out)
    else:
        DWPose.save_pretrained(out)


def _save_whisper(source: Path, config: dict, out: Path, dtype: torch.dtype) -> None:
    from cyberhost_model.speech.whisper import WhisperEncoder

    names = (
        "d_model",
        "encoder_layers",
        "encoder_attention_heads",
        "encoder_ffn_dim",
        "num_mel_bins",
        "max_source_positions",
        "activation_function",
    )
    encoder = WhisperEncoder({name: config[name] for name in names if name in config})
    weights = read_tensors(source / "model.safetensors")
    own = {
        f"model.{name.removeprefix('model.encoder.')}": value
        for name, value in weights.items()
        if name.startswith("model.encoder.")
    }
    for name in (
        "model.layer_norm.weight",
        "model.layer_norm.bias",
    ):  # after the last block; every block is used as it is
        own.pop(name, None)
    _fill(encoder, own, source)
    encoder.save_pretrained(out, dtype)


def _fill(module: nn.Module, weights: dict, source: Path) -> None:
    own = module.state_dict()
    wrong = [
        name
        for name in {*own, *weights}
        if name not in own or name not in weights or own[name].shape != weights[name].shape
    ]
    if wrong:
        raise ModelError(
            f"{source}: {len(wrong)} weights missing, unknown or of another shape, such as {min(wrong)}; it is of "
            "another model"
        )
    module.load_state_dict(weights)
