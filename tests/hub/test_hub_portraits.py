"""Models of heads that speech alone drives: every name of the published checkpoints, every number at a small size, and
one command each from the Hub to a video.

That they compute what the peers' own programs compute is measured by scripts/pipeline_parity.py, which needs the peers'
code.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import BODY, Fault, Hub
from peer_layouts import published_names
from portrait_models import (
    PORTRAITS,
    REPOSITORIES,
    collect_portrait,
    portrait_files,
    portrait_parts,
    portrait_state,
    small_portrait,
)

from cyberhost_cli.main import main
from cyberhost_model import CyberHost
from cyberhost_model.config import GenerationConfig
from cyberhost_model.errors import InputError, ModelError
from cyberhost_model.hub import registry
from cyberhost_model.hub.registry import ADAPTERS, REGISTRY, WeightFile, load_adapter
from cyberhost_model.media.audio import Sound, load_audio
from cyberhost_model.media.video_reader import stream_frames
from cyberhost_model.media.video_writer import write_video
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.porting.convert import convert
from cyberhost_model.porting.hallo import NOT_RUN
from cyberhost_model.runtime.loading import load_model
from data_helpers import voice


@pytest.mark.parametrize(
    ("name", "numbers"), [("hallo", [682 + 686 + 588 + 672 + 28]), ("echomimic", [570, 686, 588, 16])]
)
def test_every_name_at_the_full_size(name, numbers):
    preset = PORTRAITS[name]()
    with torch.device("meta"):
        state = CyberHostNetwork(preset).state_dict()
    files = published_names(name)
    assert [len(weights) for weights in files.values()] == numbers
    keys = collect_portrait(name, files)
    fresh, void = keys.gaps({key: value.shape for key, value in state.items()}, preset.name)
    assert sum(numbers) == len(keys.entries) and len(keys.weights) + len(fresh) + len(void) == len(state)
    assert all(key.startswith(("reference_net.unet.conv_norm_out", "reference_net.unet.conv_out")) for key in fresh)
    assert len(void) == (0 if name == "hallo" else 112)
    left_out = {entry.why for entry in keys.entries if not entry.new}
    assert not left_out and preset.diffusion.prediction == "v" and preset.diffusion.zero_terminal_snr
    silenced = [entry for entry in keys.entries if entry.why == NOT_RUN]
    assert len(silenced) == (2 * (2 + 3) if name == "hallo" else 0)  # of the deepest level, down and up


@pytest.mark.parametrize("name", ["hallo2", "echomimic", "echomimic-fast"])
def test_every_number_at_a_small_size(name):
    preset = small_portrait(name)
    state = {
        key: torch.randn_like(value) if value.is_floating_point() else value
        for key, value in CyberHostNetwork(preset).state_dict().items()
    }
    converted = collect_portrait(name, portrait_files(name, state)).into(preset)
    found, changed = converted.network.state_dict(), {}
    for entry in converted.entries:
        for key in entry.new:
            changed[key] = entry.why
    assert set(changed) | set(converted.initial) | set(converted.zero) == set(state)
    for key, why in changed.items():
        expected = state[key] * 3.0 if why.startswith("times") else state[key]
        if why == NOT_RUN:
            expected = torch.zeros_like(expected)
        elif key == "pose_encoder.layers.conv_in.weight" and name != "hallo2":
            expected = torch.cat([expected[:, :1], torch.zeros_like(expected[:, 1:])], 1)
        assert torch.equal(found[key], expected), key


@pytest.mark.parametrize("name", ["hallo2", "echomimic"])
def test_what_cannot_be_mapped_is_named(name):
    files = portrait_files(name, portrait_state(name))
    next(iter(files.values()))["unheard of"] = torch.zeros(1)
    with pytest.raises(ModelError, match="unheard"):
        collect_portrait(name, files).into(small_portrait(name))


@pytest.fixture(scope="session")
def portraits(published: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Converted, with the embedded detector; ArcFace is named where it is taken."""
    root = tmp_path_factory.mktemp("portraits")
    for name in ("hallo2", "echomimic"):
        convert(name, root / name, portrait_parts(published, name), template=small_portrait(name))
    return {path.name: path for path in root.iterdir()}


def serve(hub: Hub, monkeypatch: pytest.MonkeyPatch, published: Path, name: str) -> None:
    """Put the model's tiny files on the Hub where the registry looks for them, without digests."""
    folders = {name: published / name, "sd-vae-ft-mse": published / "vae"}
    folders |= {"wav2vec2": published / "wav2vec2", "whisper-tiny": published / "whisper"}
    faces = {file.path: BODY for file in REGISTRY["antelope"].files}
    for weights, folder in folders.items():
        known = REGISTRY[weights]
        data = {file.path: (folder / Path(file.path).name).read_bytes() for file in known.files}
        repo = hub.add(known.repo, {**data, **(faces if known.repo == REGISTRY["antelope"].repo else {})})
        files = tuple(WeightFile(path, len(content)) for path, content in data.items())
        monkeypatch.setitem(REGISTRY, weights, dataclasses.replace(known, files=files, revision=repo.commit))
    # ArcFace and DWPose are networks of hundreds of megabytes: the server fails when it is asked for them
    if "fudan-generative-ai/hallo2" not in (REGISTRY[weights].repo for weights in folders):
        hub.add("fudan-generative-ai/hallo2", faces)
    hub.faults += [Fault(part, status=503, methods=("GET", "HEAD")) for part in ("face_analysis", "DWPose")]
    full = small_portrait(name)
    adapter = load_adapter(name)
    small = dataclasses.replace(
        adapter,
        network=lambda paths, template: adapter.network(paths, template or full),
        full_size=lambda: full,
        room=1_000_000,
    )
    module, _, attribute = ADAPTERS[name].partition(":")
    monkeypatch.setattr(f"{module}.{attribute or 'ADAPTER'}", small)
    monkeypatch.setattr(registry, "_ALL", tuple(REGISTRY.values()))


@pytest.mark.parametrize("name", list(PORTRAITS))
def test_one_command_from_the_hub_to_a_video(name, hub, published, monkeypatch, portrait_file, tmp_path, capsys):
    serve(hub, monkeypatch, published, name)
    heard, out = tmp_path / "speech.mp4", tmp_path / "out.mp4"
    sound = Sound.from_samples(voice(0.2, 0), 16000)
    write_video((np.zeros((64, 64, 3), np.uint8) for _ in range(5)), heard, 25, sound)
    command = ["animate", str(portrait_file), str(heard), "-o", str(out), "--model", name]
    code = main([*command, "--steps", "2", "--size", "128", "--device", "cpu", "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    told = json.loads(shown.out)
    frames = list(stream_frames(out, 25.0))
    assert told["frames"] == len(frames) == load_audio(heard).n_frames(25.0) and frames[0].shape == (128, 128, 3)
    assert any(REPOSITORIES[name] in request.path for request in hub.requests)
    assert any("ArcFace is not available" in line for line in told["warnings"]) == name.startswith("hallo")
    fetched = len(hub.gets())
    assert main([*command, "--overwrite", "--steps", "1", "--size", "128", "--device", "cpu"]) == 0
    assert fetched and len(hub.gets()) == fetched  # everything is here


@pytest.mark.parametrize("name", ["hallo2", "echomimic"])
def test_speech_alone_drives_them(portraits, name, picture, tmp_path):
    host = CyberHost.from_pretrained(portraits[name], device="cpu", download_named=False)
    with pytest.raises(InputError, match="cannot run reenact: use animate"):
        host.reenact(picture, "driving.mp4")
    with pytest.raises(InputError, match="cannot run multimodal: use animate"):
        host.multimodal(picture, Sound.from_samples(voice(0.2, 0), 16000), "wave")


@pytest.mark.parametrize("name", ["hallo2", "echomimic"])
def test_what_is_heard_changes_the_video_and_a_seed_repeats_it(portraits, name, picture):
    host = CyberHost.from_pretrained(portraits[name], device="cpu", download_named=False)

    def video(sound: np.ndarray, seed: int = 0) -> np.ndarray:
        made = host.animate(picture, Sound.from_samples(sound, 16000), steps=1, size=128, seed=seed)
        return np.stack(list(made.frames))

    first, other = voice(0.2, 0), voice(0.2, 1)
    assert np.array_equal(video(first), video(first))
    assert not np.array_equal(video(first), video(other)) and not np.array_equal(video(first), video(first, seed=1))


def test_a_small_face_is_cropped_to_the_head(portraits, picture):
    host = CyberHost.from_pretrained(portraits["echomimic"], device="cpu", download_named=False)
    reference, warnings = host.open_picture(picture, GenerationConfig(size=128))
    assert any("cropped to the head" in line for line in warnings)
    assert np.ptp(reference.keypoints.face[:, 1]) == pytest.approx(1 / 2.64, abs=0.03)
    whole, warnings = host.open_picture(picture, GenerationConfig(size=128, head=False))
    assert not any("cropped" in line for line in warnings) and np.ptp(whole.keypoints.face[:, 1]) < 0.3


def test_the_face_is_described_at_its_own_length(portraits, picture):
    """Hallo reads ArcFace's descriptor as its network gives it."""
    model = load_model(str(portraits["hallo2"]), download_named=False)
    host = CyberHost(model, torch.device("cpu"), torch.float32)
    seen = []

    class Described:
        """A descriptor in ArcFace's place."""

        def describe(self, given: np.ndarray) -> np.ndarray:
            seen.append(given.shape)
            return np.full(512, 0.9, np.float32)

        def to(self, device: torch.device) -> Described:
            return self

    model.face = Described()
    with_face, _ = host.open_picture(picture, GenerationConfig(size=128, head=False))
    model.face = None
    without, _ = host.open_picture(picture, GenerationConfig(size=128, head=False))
    assert seen == [picture.shape]
    tokens = with_face.conditions.face_tokens
    assert (tokens - without.conditions.face_tokens).abs().max() > 0.1
    expected = model.network.face_tokens(torch.full((1, 512), 0.9))
    torch.testing.assert_close(tokens, expected)
