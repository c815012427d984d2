"""One command from a Hub to a video, for each model that denoises windows: fetched, converted, made."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from peer_models import small

from cyberhost_cli.main import main
from cyberhost_model.hub import registry
from cyberhost_model.hub.registry import REGISTRY, WeightFile, load_adapter
from cyberhost_model.media.video_reader import stream_frames
from cyberhost_model.porting.convert import NAMED
from data_helpers import voice

FRAMES = 8
PARTS = {"vae": "vae", "speech": "whisper", "image": "image"}


@pytest.fixture
def served(hub, published, monkeypatch):
    """served(name): the registry's weights of a model, tiny, on the server."""

    def serve(name: str) -> None:
        adapter, preset = load_adapter(name), small(name)
        for part, weights in adapter.parts.items():
            if part in NAMED:
                continue
            known, source = REGISTRY[weights], published / PARTS.get(part, name)
            files = {file.path: (source / Path(file.path).name).read_bytes() for file in known.files}
            hub.add(known.repo, {**files, **(hub.repos["model", known.repo].files if known.repo in held else {})})
            held.add(known.repo)
            sizes = tuple(WeightFile(path, len(content)) for path, content in files.items())
            entry = dataclasses.replace(known, files=sizes, revision=None)
            monkeypatch.setitem(REGISTRY, weights, entry)
        tiny = dataclasses.replace(
            adapter,
            parts={**adapter.parts, "detector": "embedded"},
            network=lambda paths, template: adapter.network(paths, preset),
            full_size=lambda: preset,
        )
        module, _, attribute = registry.ADAPTERS[name].partition(":")
        monkeypatch.setattr(sys.modules[module], attribute or "ADAPTER", tiny)

    held: set[str] = set()
    return serve


def pose_folder(folder: Path, frames: int) -> Path:
    """EchoMimicV2's template: hands that rise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    body = rng.uniform(0, 1, (18, 2))
    hands = np.array([[0.65, 0.8], [0.35, 0.8]])[:, None] + rng.uniform(-0.05, 0.05, (2, 21, 2))
    for i in range(frames):
        values = {
            "bodies": {
                "candidate": body,
                "subset": np.arange(18.0)[None],
                "score": np.ones((1, 18)),
            },
            "hands": hands - [0, 0.02 * i],
            "hands_score": np.full((2, 21), 0.9),
            "faces": rng.uniform(0.4, 0.6, (1, 68, 2)),
            "faces_score": np.ones((1, 68)),
            "num": i,
            "draw_pose_params": [768, 768, 0, 768, 0, 768],
        }
        np.save(folder / f"{i}.npy", values, allow_pickle=True)  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize("name", ["echomimic-v2", "echomimic-v2-fast", "animate-anyone"])
def test_from_the_hub_to_a_video(served, hub, name, portrait_file, tmp_path, capsys):
    served(name)
    speech = tmp_path / "speech.wav"
    soundfile.write(speech, voice(FRAMES / 25), 16000)
    poses = pose_folder(tmp_path / "poses", FRAMES)
    ref, common = str(portrait_file), ["--model", name, "--steps", "2", "--size", "128", "--device", "cpu", "--json"]
    jobs = {
        "animate": ["animate", ref, str(speech)],
        "gesture": ["multimodal", ref, "--audio", str(speech), "--hands", "wave"],
        "poses": ["multimodal", ref, "--audio", str(speech), "--hands", str(poses), "--no-retarget"],
        "reenact": ["reenact", ref, str(poses), "--audio", str(speech), "--no-retarget"],
    }
    videos = {}
    for job, command in jobs.items():
        out = tmp_path / f"{job}.mp4"
        code = main([*command, "-o", str(out), *common])
        shown = capsys.readouterr()
        if name == "animate-anyone" and job != "reenact":
            assert code == 3 and "use reenact" in shown.err and not out.exists()
            continue
        assert code == 0, shown.err
        told = json.loads(shown.out)
        videos[job] = np.stack(list(stream_frames(out, 25.0)))
        assert told["frames"] == len(videos[job]) == FRAMES
        cropped = [line for line in told["warnings"] if "cropped to the half body" in line]
        assert len(cropped) == (name != "animate-anyone")  # as it was trained; the picture shows more
        assert videos[job].shape[1:3] == (128, 128) or (cropped and 112 <= min(videos[job].shape[1:3]) <= 128)
    fetched = len(hub.gets())
    assert fetched >= 6  # once: later commands used what was there
    if name != "animate-anyone":
        assert not np.array_equal(videos["animate"], videos["gesture"])
        assert not np.array_equal(videos["poses"], videos["gesture"])
