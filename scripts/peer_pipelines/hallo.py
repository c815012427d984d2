"""Hallo and Hallo2: heads that speak, clip after clip."""

from __future__ import annotations

import argparse
import types
from functools import partial
from pathlib import Path

from peer_parity import CONTEXT, WIDTHS, randomise

from peer_pipelines.shared import (
    FACE,
    LIPS,
    RATE,
    SD15,
    SIDE,
    converted,
    make_vae,
    read_wav,
    record,
    rendered,
    stand_in,
    write_picture_and_sounds,
)

STEPS = {"hallo": 40, "hallo2": 40}
SECONDS = {"one": 0.59, "several": 1.1}
"""A clip is 16 frames, of which 14 are new from the second on."""
LISTENER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def write_inputs(peer: str, folder: Path) -> None:
    write_picture_and_sounds(folder, SECONDS)


# in the peer's process


def make(peer: str, folder: Path, steps: int) -> None:
    """Run scripts/inference.py of Hallo, or scripts/inference_long.py of Hallo2, for both lengths."""
    import numpy as np
    import torch
    from omegaconf import OmegaConf

    script, config, embedding = program(peer)
    from hallo.animate import face_animate
    from hallo.datasets import audio_processor
    from hallo.models.mutual_self_attention import ReferenceAttentionControl
    from hallo.utils import util

    ReferenceAttentionControl.update.__defaults__ = (torch.float32,)
    audio_processor.resample_audio = lambda source, out, rate: source
    audio_processor.AudioProcessor.__init__.__defaults__ = (None, None, "", "cpu")
    load = audio_processor.Wav2VecModel.from_pretrained  # newer transformers want this said, for its attentions
    audio_processor.Wav2VecModel.from_pretrained = partial(load, attn_implementation="eager")
    landmarks = np.tile(np.array([[(FACE[0] + FACE[2]) / 2, (FACE[1] + FACE[3]) / 2]]), (478, 1))
    landmarks[util.silhouette_ids[:2]] = FACE[:2], FACE[2:]
    landmarks[util.lip_ids] = (LIPS[0] + LIPS[2]) / 2, (LIPS[1] + LIPS[3]) / 2
    landmarks[util.lip_ids[:2]] = LIPS[:2], LIPS[2:]
    util.get_landmark = lambda file: (landmarks, SIDE, SIDE)
    projection, locator = script.AudioProjModel, script.FaceLocator
    heard = {"blocks": LISTENER["num_hidden_layers"], "channels": LISTENER["hidden_size"]}
    script.AudioProjModel = lambda **size: projection(
        **{**size, **heard, "intermediate_dim": 16, "output_dim": CONTEXT}
    )
    script.FaceLocator = lambda conditioning_embedding_channels: locator(WIDTHS[0])

    config.merge_with(make_parts(folder, script, config, steps))
    OmegaConf.save(config, folder / "config.yaml")
    torch.save(embedding, folder / "embedding.pt")
    noises, kept, drawn, videos = [], [], [], []
    record(face_animate, "randn_tensor", noises)
    record(face_animate.FaceAnimatePipeline, "decode_latents", kept, result=False)
    record(torch, "rand", drawn)
    script.tensor_to_video_batch = script.tensor_to_video = lambda tensor, *args, **kwargs: videos.append(tensor)
    for length in SECONDS:
        for one in (noises, kept, drawn, videos):
            one.clear()
        sound, picture = folder / f"{length}.wav", folder / "picture.png"
        given = {"source_image": str(picture), "driving_audio": str(sound), "config": str(folder / "config.yaml")}
        script.inference_process(argparse.Namespace(**given, checkpoint=None, output=str(folder / "out.mp4")))
        frames = torch.cat(videos, 1)
        result = {
            "noises": noises,
            "latents": torch.cat(kept, 2)[:, :, : frames.shape[1]],  # its last clip is longer than the sound
            "drawn": [d for d in drawn if d.ndim == 2],
            "frames": frames,
        }
        torch.save(result, folder / f"{length}.pt")


def program(peer: str) -> tuple:
    """Import its inference script -> the module, its configuration, and the descriptor of the face that it finds."""
    import importlib

    # before anything is stood in for, as these look for what is installed
    from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline  # noqa: F401
    from omegaconf import OmegaConf
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model  # noqa: F401

    embedding = make_stand_ins()
    script = importlib.import_module("scripts.inference_long" if peer == "hallo2" else "scripts.inference")
    config = OmegaConf.load(f"configs/inference/{'long' if peer == 'hallo2' else 'default'}.yaml")
    return script, config, embedding


def list_names(peer: str) -> dict:
    """Build net.pth at the published size, without numbers."""
    from omegaconf import OmegaConf

    script, config, _ = program(peer)
    size = {**SD15, "cross_attention_dim": 768}
    extra = OmegaConf.to_container(config.unet_additional_kwargs)
    net = script.Net(
        script.UNet2DConditionModel.from_config(size),
        script.UNet3DConditionModel.from_config(size, **extra),
        script.FaceLocator(conditioning_embedding_channels=320),
        script.ImageProjModel(cross_attention_dim=768, clip_embeddings_dim=512, clip_extra_context_tokens=4),
        script.AudioProjModel(
            seq_len=5, blocks=12, channels=768, intermediate_dim=512, output_dim=768, context_tokens=32
        ),
    )
    return {"net.pth": net.state_dict()}


def make_stand_ins():
    """Stand in for what Hallo imports for files and detectors; returns the face's descriptor that they then find."""
    import shutil

    import torch

    embedding = torch.randn(512, generator=torch.Generator().manual_seed(5)) * 0.9

    class Faces:
        models: dict = {}

        def __init__(self, *args, **kwargs):
            pass

        def prepare(self, *args, **kwargs):
            pass

        def get(self, picture):
            return [{"bbox": FACE, "embedding": embedding.numpy()}]

    class Separated:
        model_instance, output_dir = 1, ""

        def __init__(self, *args, **kwargs):
            pass

        def load_model(self, name):
            pass

        def separate(self, path):
            return [str(Path(path).resolve())]

    class Whole:  # sounds shorter than a minute are one piece
        def __init__(self, path):
            self.path = path

        @classmethod
        def from_wav(cls, path):
            return cls(path)

        def __len__(self):
            return round(len(read_wav(self.path)[0]) / RATE * 1000)

        def __getitem__(self, piece):
            return self

        def export(self, path, format):
            shutil.copy(self.path, path)

    stand_in_torchvision()
    stand_in("insightface.app", FaceAnalysis=Faces)
    stand_in("audio_separator.separator", Separator=Separated)
    stand_in("librosa", load=read_wav)
    stand_in("pydub", AudioSegment=Whole)
    stand_in("icecream", ic=lambda *args: None)
    for name in ("mediapipe", "moviepy.editor", "xformers.ops"):
        stand_in(name)
    return embedding


def stand_in_torchvision() -> None:
    """Resizing and conversion of pictures, as torchvision does them with Pillow."""
    import numpy as np
    import torch
    from PIL import Image

    def compose(steps):
        def run(picture):
            for step in steps:
                picture = step(picture)
            return picture

        return run

    def resize(size):
        return lambda picture: picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)

    def to_tensor():
        def run(picture):
            array = np.array(picture, copy=True)
            return torch.from_numpy(array[..., None] if array.ndim == 2 else array).permute(2, 0, 1).float() / 255

        return run

    def normalize(mean, std):
        return lambda tensor: (tensor - mean[0]) / std[0]

    stand_in("torchvision.transforms", Compose=compose, Resize=resize, ToTensor=to_tensor, Normalize=normalize)


def make_parts(folder: Path, script, config, steps: int) -> dict:
    """Write all parts of the model, small; returns what the configuration must say of them."""
    import torch
    from omegaconf import OmegaConf
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    size = {**SD15, "block_out_channels": WIDTHS, "cross_attention_dim": CONTEXT}
    script.UNet2DConditionModel.from_config(size).save_pretrained(folder / "base/unet")
    make_vae(folder / "vae")
    listener = Wav2Vec2Model(Wav2Vec2Config(**LISTENER, conv_dim=[8] * 7, num_conv_pos_embedding_groups=2))
    randomise(listener)
    listener.save_pretrained(folder / "wav2vec2")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder / "wav2vec2")
    extra = OmegaConf.to_container(config.unet_additional_kwargs) | {"audio_attention_dim": CONTEXT}
    denoising = script.UNet3DConditionModel.from_pretrained_2d(
        folder / "base", folder / "none", subfolder="unet", unet_additional_kwargs=extra, use_landmark=False
    )
    net = script.Net(
        script.UNet2DConditionModel.from_pretrained(folder / "base", subfolder="unet"),
        denoising,
        script.FaceLocator(conditioning_embedding_channels=320),
        script.ImageProjModel(cross_attention_dim=CONTEXT, clip_embeddings_dim=512, clip_extra_context_tokens=4),
        script.AudioProjModel(seq_len=5, context_tokens=32),
    )
    randomise(net)
    torch.save(dict(net.state_dict()), folder / "net.pth")
    return {
        "weight_dtype": "fp32",
        "data": {"source_image": {"width": SIDE, "height": SIDE}},
        "inference_steps": steps,
        "audio_ckpt_dir": str(folder),
        "save_path": str(folder / "out"),
        "base_model_path": str(folder / "base"),
        "motion_module_path": str(folder / "none"),
        "wav2vec": {"model_path": str(folder / "wav2vec2")},
        "vae": {"model_path": str(folder / "vae")},
        "unet_additional_kwargs": {"audio_attention_dim": CONTEXT},
    }


# in this process


def ours(peer: str, folder: Path, length: str, steps: int, theirs: dict, shake) -> tuple:
    """Animate with the converted model: its host, latents and frames. Noise and dropped pixels are the peer's."""
    import dataclasses

    import torch

    from cyberhost_model.porting.hallo import full_size
    from cyberhost_model.sampler import denoise

    full = full_size(peer)
    template = dataclasses.replace(
        full,
        size=(SIDE, SIDE),
        unet=dataclasses.replace(full.unet, block_out_channels=WIDTHS, cross_attention_dim=CONTEXT),
        audio=dataclasses.replace(full.audio, dim=LISTENER["hidden_size"], layers=LISTENER["num_hidden_layers"]),
        portrait=dataclasses.replace(full.portrait, audio_hidden=16),
    )
    host = converted(peer, folder, template, "wav2vec2")
    embedding = torch.load(folder / "embedding.pt", weights_only=True).numpy()
    host.model.face = types.SimpleNamespace(describe=lambda picture: embedding, to=lambda device: None)
    noises = iter([shake(noise.transpose(1, 2)) for noise in theirs["noises"]])
    drawn, rand, draw = iter(theirs["drawn"]), torch.rand, denoise.smooth_noise
    denoise.smooth_noise = lambda *args: next(noises)
    torch.rand = lambda *size, **kwargs: next(drawn)
    try:
        animation = host.animate(folder / "picture.png", folder / f"{length}.wav", steps=steps, size=SIDE, head=False)
        return host, *rendered(host, animation)
    finally:
        torch.rand, denoise.smooth_noise = rand, draw
