"""Synthetic clips: seeded, consistent, still in silence."""

import numpy as np
import pytest

from cyberhost_cli.main import main
from cyberhost_model.errors import InputError
from cyberhost_model.lab.filmed.manifest import held_out, read_manifest, split_of
from cyberhost_model.lab.synthetic.clips import export_clip
from cyberhost_model.lab.synthetic.performance import perform, wander
from cyberhost_model.lab.synthetic.sources import People, SpeechLibrary
from cyberhost_model.lab.synthetic.speech_motion import speech_motion
from data_helpers import small_synth, speech_folder, voice


def test_a_clip_depends_on_its_number_alone(tmp_path):
    a, b = small_synth(tmp_path / "s"), small_synth(tmp_path / "s")
    b.clip(9)
    one, two, other = a.clip(4), b.clip(4), a.clip(5)
    assert np.array_equal(one.frames[7].picture_u8, two.frames[7].picture_u8)
    assert np.array_equal(one.samples, two.samples)
    assert not np.array_equal(one.frames[7].picture_u8, other.frames[7].picture_u8)
    assert len(one.frames) == len(one.heard) == len(one.clarity) == 16


def test_the_mouth_follows_the_speech_and_rests_in_silence():
    samples = np.concatenate([voice(2), np.zeros(32000, np.float32)])
    motion = speech_motion(samples)
    poses = perform(motion, np.random.default_rng(0), clasped=False)
    opening = np.array([p.opening for p in poses])
    assert np.allclose(opening, motion.opening)
    assert opening[:50].max() > 0.5
    assert opening[60:].max() < 0.02


def test_head_and_arms_are_alive_also_in_silence():
    motion = speech_motion(np.zeros(16000 * 8, np.float32))
    poses = perform(motion, np.random.default_rng(1), clasped=False)
    assert np.std([p.yaw for p in poses]) > 0.01
    assert np.std([p.arms[0][1] for p in poses]) > 0.01
    assert max(p.blink for p in poses) == 1.0


def test_clasped_hands_move_as_one():
    poses = perform(speech_motion(voice(3)), np.random.default_rng(2), clasped=True)
    for p in poses:
        assert p.arms[0] == p.arms[1] and p.arms[0][0] == p.arms[0][2] == 0  # elbows alone


def test_wander_is_smooth_and_of_unit_deviation():
    times = np.arange(5000) / 25
    curve = np.mean([wander(np.random.default_rng(i), times).std() for i in range(8)])
    assert 0.8 < curve < 1.2
    one = wander(np.random.default_rng(0), times)
    assert np.abs(np.diff(one)).max() < 0.35


def test_held_out_speakers_are_kept_apart(tmp_path):
    folder = speech_folder(tmp_path / "s")
    train = {p.name for p in SpeechLibrary([folder]).folders[0]}
    assert train
    try:
        held = {p.name for p in SpeechLibrary([folder], held_out=True).folders[0]}
    except InputError:
        held = set()
    assert not train & held and len(train | held) == 4


def test_clips_of_people_kept_out_are_held_out_all(tmp_path):
    """Drawn people belong to no folder: a hash of their names would put nine in ten into training."""
    pytest.importorskip("pyarrow")
    voices = speech_folder(tmp_path / "s")
    held = next(name for name in map(str, range(100)) if held_out(name))
    for path in [*voices.iterdir()]:
        path.rename(path.with_name(f"{held}-{path.name}"))
    command = ["data", "synth", "--speech", str(voices), "-o", str(tmp_path / "clips"), "--clips", "2"]
    assert main([*command, "--frames", "16", "--held-out"]) == 0
    rows = read_manifest(tmp_path / "clips")
    assert [row.split for row in rows] == ["held_out"] * 2
    assert {split_of(row.identity) for row in rows} == {"train"}  # by their names alone


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(InputError, match="no speech"):
        SpeechLibrary([tmp_path])
    with pytest.raises(InputError, match="keypoints.json"):
        People([str(tmp_path)])


def test_export_writes_video_reference_and_labels(tmp_path):
    synth = small_synth(tmp_path / "s")
    row = export_clip(synth.clip(1), tmp_path, 1)
    video = tmp_path / str(row.video)
    labels = np.load(video.with_suffix(".npz"))
    assert video.stat().st_size > 1000 and video.with_suffix(".png").is_file()
    assert labels["face"].shape == (16, 68, 2) and labels["flow"].shape == (16, 128, 128, 2)
    boxes = labels["face_box"]
    centre = labels["face"].mean(1) * 128
    assert ((centre > boxes[:, :2]) & (centre < boxes[:, 2:])).all()
