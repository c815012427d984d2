"""Filmed people in training: estimated flow, batches of the codec, stills of detector and lip reader, fidelity."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cyberhost_cli.main import main
from cyberhost_model.codecs.reference import ReferenceCodec
from cyberhost_model.config import EMBEDDED
from cyberhost_model.errors import InputError, TrainingError
from cyberhost_model.lab.filmed.manifest import accepted_rows, add_rows, read_manifest, write_manifest
from cyberhost_model.lab.synthetic.clips import export_clip
from cyberhost_model.lab.synthetic.labelled_speech import _filmed
from cyberhost_model.lab.synthetic.sources import People
from cyberhost_model.lab.training.assemble import trained_codec
from cyberhost_model.lab.training.codec_init import codec_config
from cyberhost_model.lab.training.codec_inputs import encode_frames
from cyberhost_model.lab.training.codec_samples import CodecFrames, FilmedFrames
from cyberhost_model.lab.training.detector_samples import BatchSizes, DetectorSamples
from cyberhost_model.lab.training.fidelity import GOALS, Fidelity
from cyberhost_model.lab.training.filmed_clips import cut_clips, estimate_flow, read_filmed
from cyberhost_model.lab.training.filmed_stills import filmed_stills, sure_hands
from cyberhost_model.lab.training.stages.codec import CodecStage, CodecStageConfig
from data_helpers import small_synth, stills_folder

pytest.importorskip("av")
pytest.importorskip("pyarrow")

RECIPE = """
[codec]
steps = 1
filmed = 1.0
components = { flow = 8, novelty = 4, left = 24 }
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Two clips of drawn people as if they were filmed, and one that is held out."""
    folder = tmp_path_factory.mktemp("filmed")
    made, rows = small_synth(folder / "speech", frames=16), []
    for number in range(3):
        rows.append(export_clip(made.clip(number), folder, number))
        rows[-1].split = "held_out" if number == 2 else "train"
    add_rows(folder, rows)
    return folder


def texture(seed: int, side: int = 160) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (side // 4, side // 4, 3)).astype(np.uint8)
    return cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)


def test_what_is_hidden_moves_as_what_is_around_it():
    reference = texture(0)
    frame = np.roll(reference, 4, axis=1)
    frame[60:100, 60:100] = texture(1)[60:100, 60:100]
    flow, seen = estimate_flow(frame, reference)
    assert seen[70:90, 70:90].mean() < 0.25 and seen[20:50, 20:140].mean() > 0.95
    assert np.abs(flow[70:90, 70:90] - [-4, 0]).mean() < 1 and np.abs(flow[20:50, 20:140] - [-4, 0]).mean() < 0.2


def test_a_bare_wall_is_visible():
    """No flow is sure there, and none is needed."""
    wall = np.full((128, 128, 3), 180, np.uint8)
    frame = wall + np.random.default_rng(0).integers(0, 3, wall.shape).astype(np.uint8)
    assert estimate_flow(frame, wall)[1].min() > 0.9


def test_batches_of_filmed_people_are_like_those_of_puppets(dataset):
    filmed = FilmedFrames([str(dataset)], seed=3, count=2, poses=2)
    first, again = filmed[1], FilmedFrames([str(dataset)], seed=3, count=2, poses=2)[1]
    puppets = CodecFrames(People([], drawn=1.0), seed=3, count=2, poses=2)[1]
    assert first.keys() == puppets.keys()
    assert all(first[k].dtype == puppets[k].dtype and first[k].ndim == puppets[k].ndim for k in first)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["frames"], filmed[2]["frames"])
    assert (first["person"] == -1).all() and {row.clip for _, row in filmed.folders[0]} == {"000000", "000001"}


def test_a_codec_learns_what_its_components_leave(dataset):
    stage = CodecStage(
        People([], drawn=1.0),
        ReferenceCodec(codec_config({"flow": 14, "novelty": 4, "colour": 6})),
        CodecStageConfig(filmed=1.0),
        [str(dataset)],
    )
    batch = stage.dataset(seed=1)[0]
    assert (batch["person"] == -1).all()
    losses = stage.loss(batch, torch.Generator().manual_seed(0))
    assert "coded" not in losses and torch.isfinite(losses["marks"]), "where filmed people are nobody marked"


def test_from_a_dataset_to_a_model_with_such_a_codec(dataset, tmp_path, capsys, monkeypatch):
    """`train --init tiny`, going on, coding with what was trained, and assembling it."""
    monkeypatch.setattr("cyberhost_model.lab.training.stages.codec.FITTED", 1)
    recipe, run, stills = tmp_path / "left.toml", tmp_path / "run", stills_folder(tmp_path / "stills")
    recipe.write_text(RECIPE)
    command = ["train", "--stage", "codec", "--config", str(recipe), "--stills", str(stills), "--workers", "0"]
    command += ["--filmed", str(dataset), "-o", str(run), "--json"]
    assert main([*command, "--init", "tiny"]) == 0, capsys.readouterr().err
    found = json.loads(capsys.readouterr().out)
    assert found["losses"]["coded"] > 0
    codec = trained_codec(run)
    assert codec.config.left == 24 and codec.config.colour == 0 and codec.z_std[12:36].min() > 0
    assert main([*command, "--steps", "2"]) == 0, capsys.readouterr().err  # --init is not needed again
    capsys.readouterr()
    other = tmp_path / "other.toml"
    for components, words in (("left = 23", "sum must be 36"), ("colour = 1, left = 23", "other components")):
        other.write_text(RECIPE.replace("left = 24", components))
        assert main([*command[:4], str(other), *command[5:], "--steps", "3"]) == 9
        assert words in capsys.readouterr().err

    code = ["data", "encode", "--data", str(dataset), "--codec", str(run), "--frames", "16"]
    assert main([*code, "-o", str(tmp_path / "coded")]) == 0
    said = capsys.readouterr().err
    (line,) = (line for line in said.splitlines() if "decoded from what was coded" in line)
    psnr = {name: float(value) for name, value in re.findall(r"(whole|mouth|hands) ([\d.]+) dB", line)}
    assert psnr.keys() == GOALS.keys() and 15 < psnr["whole"] < 60
    assert ("too poor" in said) == any(psnr[name] < goal for name, goal in GOALS.items())
    assert main(["weights", "assemble", "--codec", str(run), "-o", str(tmp_path / "model")]) == 0
    assert ReferenceCodec.load(tmp_path / "model" / "codec").config == codec.config


def test_fidelity_is_measured_where_something_is_seen(dataset):
    row = accepted_rows(dataset)[0]
    (clip,) = next(cut_clips(read_filmed(dataset, row), 16, np.random.default_rng(0)))
    codec = ReferenceCodec.load(EMBEDDED / "tiny" / "codec")
    z = encode_frames(clip, codec).float()
    good, bad = Fidelity(), Fidelity()
    good.add(codec, clip, z)
    bad.add(codec, clip, torch.zeros_like(z))
    assert len(good.values["whole"]) == 4 and good.psnr()["whole"] > bad.psnr()["whole"] + 1
    assert bad.too_low().keys() >= {"whole"}
    none = Fidelity()
    assert none.psnr() == {} and none.too_low() == {}


def test_only_sure_labels_of_filmed_people_teach_the_detector(dataset):
    clip = read_filmed(dataset, accepted_rows(dataset)[0])
    clip.labels["hands_score"][0] = np.array([[0.9], [0.4]])
    assert (sure_hands(clip, 0).hands_score.max(1) > 0.6).tolist() == [True, False]
    clip.labels["hands_score"][0], clip.labels["hands"][0, 1] = 0.9, clip.labels["hands"][0, 0]
    assert (sure_hands(clip, 0).hands_score.max(1) > 0.6).sum() == 1, "two hands in one place"

    seen = filmed_stills([str(dataset)], frames=2)
    assert len(seen) == 4 and all(still.keypoints.face_score.min() > 0.6 for still in seen)
    for still in seen[:3]:
        still.keypoints.hands_score[1] = 0
    sizes = BatchSizes(1, 1, 1, 1)
    alone, beside = (DetectorSamples([seen[3]], [], 0, sizes, filmed=more) for more in ([], seen[:3]))
    assert len(beside.pools[0]) == len(alone.pools[0]) + 6
    assert len(beside.labelled[0]) == len(alone.labelled[0]), "where a hand is not, they do not say"
    assert len(beside.hands[0]) > len(alone.hands[0])


def test_a_dataset_without_sure_labels_is_told(dataset, tmp_path):
    for name in ("000000.mp4", "000000.npz"):
        (tmp_path / name).write_bytes((dataset / name).read_bytes())
    write_manifest(tmp_path, [read_manifest(dataset)[0]])
    labels = dict(np.load(tmp_path / "000000.npz"))
    np.savez(tmp_path / "000000.npz", **{**labels, "opening": np.full_like(labels["opening"], np.nan)})
    assert len(filmed_stills([str(tmp_path)], frames=1)) == 1
    with pytest.raises(TrainingError, match="no frame in which lips are read"):
        filmed_stills([str(tmp_path)], frames=1, lips=True)
    with pytest.raises(InputError, match="no clip of split 'held_out'"):
        accepted_rows(tmp_path, "held_out")


def test_of_a_dataset_stage_audio_takes_the_videos_it_was_made_of(dataset, tmp_path):
    rows = read_manifest(dataset)
    video = tmp_path / "talk.mp4"
    video.write_bytes((dataset / "000000.mp4").read_bytes())
    rows[0].source, rows[1].source = str(video), str(tmp_path / "gone.mp4")
    write_manifest(tmp_path, rows)
    assert _filmed(str(tmp_path)) == [video]
