"""THEval's measures: formulas against values computed by hand, and from a file to its values."""

from __future__ import annotations

import itertools
import math
import statistics

import eval_degradations
import numpy as np
import pytest
from eval_helpers import features_of

from cyberhost_model.errors import ResourceError
from cyberhost_model.lab.evaluation import theval
from cyberhost_model.lab.evaluation.features import face_mesh
from cyberhost_model.lab.evaluation.features.face_mesh import FaceMeshFrames, load_face_mesh
from cyberhost_model.lab.evaluation.features.speech_segments import loud_segments
from cyberhost_model.lab.evaluation.run import evaluate

NAMES = ["LipDynamics", "BrowDynamics", "SilentLips", "LipSync"]


def test_lip_dynamics_is_the_deviation_of_distances():
    lips = np.random.default_rng(0).random((6, 5, 2)) * 256
    lips[2] = np.nan
    kept = [lips[t] for t in range(6) if t != 2]
    deviations = [
        statistics.pstdev(math.dist(points[a], points[b]) for points in kept)
        for a, b in itertools.combinations(range(5), 2)
    ]
    assert theval.lip_dynamics(lips) == pytest.approx(statistics.mean(deviations), rel=1e-12)
    assert theval.lip_dynamics(lips[:1].repeat(4, 0)) == pytest.approx(0, abs=1e-12)
    assert math.isnan(theval.lip_dynamics(np.full((3, 5, 2), np.nan)))


def test_brow_dynamics_is_the_mean_step_and_goes_over_gaps():
    lift = np.array([[0.5, 0.5], [0.6, 0.5], [np.nan, np.nan], [0.6, 0.9]])
    assert theval.brow_dynamics(lift) == pytest.approx((0.1 + 0 + 0 + 0.4) / 4)
    assert math.isnan(theval.brow_dynamics(lift[:1]))


def test_silences_are_long_and_outside_of_speech():
    speech = theval.speech_frames([(0.4, 0.8), (1.0, 1.2)], 50, 25)
    assert np.flatnonzero(speech).tolist() == [*range(10, 21), *range(25, 31)]
    # 0 to 9 are 0.4 s; 21 to 24 are shorter than 0.3 s; 31 to 49.
    assert np.flatnonzero(theval.silent_frames(speech, 25)).tolist() == [*range(10), *range(31, 50)]
    opening = np.full(50, 9.0)
    opening[:10], opening[31:] = 0.1, 0.2
    silent = theval.silent_frames(speech, 25)
    mean = (10 * 0.1 + 19 * 0.2) / 29
    assert theval.silent_lip_stability(opening, silent) == pytest.approx(0.2 - mean)
    assert math.isnan(theval.silent_lip_stability(opening, np.zeros(50, bool)))


def test_lip_sync_is_zero_for_lips_that_follow_the_volume():
    volume, speech = np.abs(np.sin(np.arange(40) / 3)), np.ones(40, bool)
    assert theval.lip_sync(0.3 + 2 * volume, volume, speech) == pytest.approx(0, abs=1e-7)
    opposite = theval.lip_sync(-volume, volume, speech)
    unit = (volume - volume.min()) / np.ptp(volume)
    assert opposite == pytest.approx(np.abs(1 - 2 * unit).mean(), abs=1e-6)
    assert math.isnan(theval.lip_sync(volume, volume, np.arange(40) < 3))


def test_volume_is_the_root_mean_square_about_each_step():
    samples = np.random.default_rng(1).normal(size=3300)
    steps = theval.volume_steps(samples, 16000)  # 800 samples a window
    padded = np.concatenate([np.zeros(400), samples, np.zeros(400)])
    expected = [math.sqrt(np.mean(padded[k * 800 : k * 800 + 800] ** 2)) for k in range(5)]
    assert steps == pytest.approx(expected, rel=1e-9)
    assert theval.volume_at_frames(steps, 3, 40.0) == pytest.approx([steps[0], (steps[0] + steps[1]) / 2, steps[1]])
    silence_then_sound = np.concatenate([np.zeros(16000), np.ones(16000)]).astype(np.float32)
    ((start, end),) = loud_segments(silence_then_sound, theval.volume_steps(silence_then_sound, 16000))
    assert start == pytest.approx(1.0, abs=0.06) and end == pytest.approx(2.0, abs=0.06)
    assert loud_segments(np.zeros(1600), np.zeros(3)) == []


def test_closeness_is_that_of_the_authors_table():
    """Lip dynamics and lip-sync of their own test, and the shipped ground truth against itself."""
    assert theval.closeness(15.0, 10.0) == 0.5 and theval.closeness(0.0, 10.0) == 0.0
    for value in (1.716603, 0.006777, 0.0263, 0.2528):
        assert theval.closeness(value, value) == 1
    assert math.isnan(theval.closeness(1.0, 0.0))


def test_a_mesh_gives_its_features():
    mesh = np.random.default_rng(2).random((478, 2))
    lips, opening = face_mesh.lips_and_opening(mesh)
    assert lips.shape == (40, 2) and lips[1] == pytest.approx(mesh[13] * 256)
    eyes = 256 * math.dist(mesh[33], mesh[263])
    gaps = [256 * abs(mesh[a][1] - mesh[b][1]) / eyes for a, b in zip(face_mesh.UPPER, face_mesh.LOWER, strict=True)]
    assert opening == pytest.approx(np.mean(gaps))
    seen = []

    def start():
        return lambda f: mesh, lambda f: seen.append(f.shape) or mesh, lambda f: None

    found = features_of(FaceMeshFrames(start, "x"), np.zeros((3, 64, 96, 3), np.uint8))
    assert {name: rows.shape for name, rows in found.items()} == {n: (3, w) for n, w in face_mesh.WIDTHS.items()}
    assert seen == [(64, 96, 3)] * 3 and np.isnan(found["sync_opening"]).all()
    assert found["opening"][:, 0] == pytest.approx(opening, rel=1e-6)


def test_without_the_library_it_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mediapipe", None)
    with pytest.raises(ResourceError, match=r"pip install 'cyberhost\[theval\]'"):
        load_face_mesh()


def test_still_lips_and_late_sound_are_noticed(tmp_path):
    """A drawn person who speaks; the same with one frame for all."""
    clips = eval_degradations.render_speakers((5,), 8)
    still = [eval_degradations.SpeakerClip(clips[0].frames[:1].repeat(8, 0), clips[0].sound, clips[0].source)]
    values = {}
    for name, made in (("talks", clips), ("still", still)):
        folder = eval_degradations.write_videos(tmp_path / name, made)
        found = evaluate(folder, metrics=["theval"], networks="embedded", download=False, cache=tmp_path / "c").results
        assert [m.name for m in found.metrics] == NAMES and {m.protocol for m in found.metrics} == {
            "theval-2511.04520-embedded"
        }
        values[name] = {m.name: m.value for m in found.metrics}
    assert values["talks"]["LipDynamics"] > 3 * values["still"]["LipDynamics"]
    assert values["talks"]["BrowDynamics"] > values["still"]["BrowDynamics"]
