"""A codec registered from outside the package: saved, loaded by its kind, and used to animate a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from cyberhost_model import CyberHost, ModelError, config
from cyberhost_model.codecs.base import Codec, for_reference_net, load_codec
from cyberhost_model.codecs.close_up import CloseUp
from cyberhost_model.config import CodecTraits, register_codec
from cyberhost_model.hub.tensors import load_weights
from cyberhost_model.media.audio import Sound
from cyberhost_model.runtime.loading import save_model
from data_helpers import voice
from model_helpers import MINI, make_network

KIND = "mean-colour"


class MeanColourCodec(Codec):
    """The mean colour of each 16x16 block, times a learned gain."""

    kind = KIND

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3, 1, 1))

    def encode_reference(self, reference: Tensor, control_maps: Tensor | None = None) -> Tensor:
        return F.avg_pool2d(reference, 16) * self.gain

    def encode(self, frames, flow, visible, controls, reference, close_ups=()) -> Tensor:
        return self.encode_reference(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def decode(
        self, z: Tensor, reference: Tensor, picture: Tensor | None = None, close_ups: Sequence[CloseUp] = ()
    ) -> Tensor:
        size = (reference if picture is None else picture).shape[-2:]
        return F.interpolate((z / self.gain).flatten(0, 1), size=size).clamp(-1, 1).unflatten(0, z.shape[:2])

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file({"gain": self.gain.detach().to(dtype)}, Path(folder) / "model.safetensors")

    @staticmethod
    def load(folder: str | Path) -> MeanColourCodec:
        codec = MeanColourCodec()
        load_weights(codec, Path(folder) / "model.safetensors")
        return codec


@pytest.fixture
def registered(monkeypatch) -> None:
    """Register the codec for one test."""
    monkeypatch.setattr(config, "CODECS", dict(config.CODECS))
    register_codec(KIND, CodecTraits(f"{__name__}:{MeanColourCodec.__name__}"))


def test_a_registered_codec_is_loaded_by_its_kind(registered, tmp_path):
    codec = MeanColourCodec()
    nn.init.constant_(codec.gain, 0.5)
    codec.save(tmp_path, torch.float32)
    again = load_codec(KIND, tmp_path)
    assert type(again) is MeanColourCodec and not again.training and torch.equal(again.gain, codec.gain)
    frames = torch.rand(2, 3, 3, 64, 32) * 2 - 1
    z = again.encode(frames, *[torch.empty(0)] * 4)
    assert z.shape == (2, 3, 3, 4, 2) and again.decode(z, frames[:, 0]).shape == frames.shape
    assert torch.equal(for_reference_net(KIND, z, z[:, 0]), z)  # latents of pictures need no reference


def test_kinds_are_unique_and_known(registered):
    with pytest.raises(ValueError, match=f"there is a codec '{KIND}' already"):
        register_codec(KIND, CodecTraits(""))
    with pytest.raises(ModelError, match="there is no codec 'other'; choose one of .*, mean-colour"):
        load_codec("other", "")


def test_it_animates_a_picture(registered, host, picture, tmp_path):
    audio = host.model.network.preset.audio
    preset = dataclasses.replace(MINI, codec=KIND, latent_channels=3, face_state=False, audio=audio)
    model = dataclasses.replace(host.model, network=make_network(preset), codec=MeanColourCodec())
    save_model(model, tmp_path)
    made = CyberHost.from_pretrained(tmp_path, device="cpu").animate(
        picture, Sound.from_samples(voice(0.08), 16_000), size=256
    )
    frames = list(made.frames)
    assert isinstance(host.model.codec, Codec) and made.n_frames == len(frames) == 2
    assert {frame.shape[:2] for frame in frames} == {made.size[::-1]}
    assert (frames[0][:2, :2] == frames[0][0, 0]).all()  # blocks of one colour
