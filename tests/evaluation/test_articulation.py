"""Articulation: curves whose lips do as planted -> the effects; a set with a planted recogniser; filmed people."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from eval_helpers import moving, write

from cyberhost_model.lab.evaluation import articulation
from cyberhost_model.lab.evaluation.articulation import (
    EFFECTS,
    LipTrack,
    frame_levels,
    loudness_correlation,
    measure_effect,
    sound_power,
)
from cyberhost_model.lab.evaluation.features.extractor import PerFrame
from cyberhost_model.lab.evaluation.features.people import WIDTHS, PersonFeatures, keypoint_rows
from cyberhost_model.lab.evaluation.features.phonemes import PIECE, PhonemeFeatures
from cyberhost_model.lab.evaluation.metrics import articulation as metric
from cyberhost_model.lab.evaluation.run import evaluate
from cyberhost_model.lab.filmed.manifest import held_out
from cyberhost_model.media.audio import Sound
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.perception.lip_reader import set_lip_gap

FILMED = Path(os.environ.get("CYBERHOST_FILMED", Path(__file__).resolve().parents[3] / "shared/data/filmed/grid_s1"))


FRAMES = 500


def track(seed: int = 0, fps: float = 25.0, closed: float = 0.0, late: int = 0) -> LipTrack:
    """Lips that wander, and 20 times a "b" of 0.08 s at which the gap becomes `closed` times itself, `late` frames
    after the sound."""
    rng = np.random.default_rng(seed)
    gap = np.convolve(rng.normal(0, 1, FRAMES), np.ones(5) / 5, "same") * 0.01 + 0.08
    level = np.abs(rng.normal(0, 1, FRAMES))
    starts = 10 + np.cumsum(rng.integers(14, 32, 20))
    for start in starts:
        gap[start + late : start + late + 3] *= closed
    spans = [(start / fps, start / fps + 0.08, "b") for start in starts]
    return LipTrack(gap, 1 - gap, level, spans, fps)


def test_a_closure_is_found_where_it_is() -> None:
    found = measure_effect([track(), track(1)], EFFECTS["closure"])
    assert found.value < -1 and abs(found.lag) <= 3 and found.spans == 40 and 0 < found.control_deviation < 0.5
    late = measure_effect([track(late=5), track(1, late=5)], EFFECTS["closure"])
    assert late.value == pytest.approx(found.value, abs=0.2) and late.lag >= 2
    nothing = measure_effect([track(closed=1.0), track(1, closed=1.0)], EFFECTS["closure"])
    assert abs(nothing.value) < 4 * nothing.control_deviation


def test_an_effect_has_its_own_curve_and_direction() -> None:
    narrow = track()
    spans = [(start, end, "u") for start, end, _ in narrow.spans]
    rounded = LipTrack(narrow.width, narrow.gap, narrow.level, spans)
    assert measure_effect([rounded], EFFECTS["rounding"]).value == measure_effect([narrow], EFFECTS["closure"]).value
    wide = LipTrack(narrow.width, narrow.gap, narrow.level, [(start, end, "ɑ") for start, end, _ in narrow.spans])
    assert measure_effect([wide], EFFECTS["opening"]).value == pytest.approx(
        -measure_effect([narrow], EFFECTS["closure"]).value
    )
    assert np.isnan(measure_effect([wide], EFFECTS["closure"]).value)


def test_neither_units_nor_lost_frames_nor_the_rate_matter() -> None:
    one = track()
    value = measure_effect([one], EFFECTS["closure"]).value
    scaled = LipTrack(one.gap * 7 + 3, one.width, one.level, one.spans)
    assert measure_effect([scaled], EFFECTS["closure"]).value == pytest.approx(value)
    lost = one.gap.copy()
    lost[::17] = np.nan
    assert measure_effect([LipTrack(lost, one.width, one.level, one.spans)], EFFECTS["closure"]).value < -1
    unseen = LipTrack(np.full(FRAMES, np.nan), one.width, one.level, one.spans)
    assert measure_effect([one, unseen], EFFECTS["closure"]).value == pytest.approx(value)
    twice = LipTrack(np.repeat(one.gap, 2), one.width, one.level, one.spans, 50.0)
    found = measure_effect([twice], EFFECTS["closure"])
    assert found.value == pytest.approx(value, abs=0.15)


def test_loudness() -> None:
    one = track()
    assert abs(loudness_correlation(one)) < 0.2
    assert loudness_correlation(LipTrack(one.gap, one.width, 3 * one.gap, [])) == pytest.approx(1)
    still = LipTrack(np.full(FRAMES, 0.05), one.width, one.level, [])
    assert np.isnan(loudness_correlation(still)) and np.isnan(loudness_correlation(one, still=1.0))


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0])
def test_levels_are_those_of_the_frames(fps: float) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 32_000) * np.linspace(0, 1, 32_000)
    levels = frame_levels(sound_power(samples), 60, fps)
    for i in range(60):
        part = samples[round(i * 16_000 / fps) : round((i + 1) * 16_000 / fps)]  # none beyond 2 s
        assert levels[i] == pytest.approx(np.sqrt(np.mean(part**2)) if len(part) else 0, rel=0.02, abs=1e-3)


def test_phonemes_of_a_long_sound_come_piece_by_piece(tmp_path: Path) -> None:
    import soundfile

    heard = []

    def recognise(samples: np.ndarray) -> list[tuple[float, float, str]]:
        heard.append(len(samples))
        return [(0.5, 0.6, "m")]

    soundfile.write(tmp_path / "a.wav", np.full(2 * PIECE + 7000, 0.5, np.float32), 16_000, subtype="FLOAT")
    found = PhonemeFeatures(recognise, "planted").extract(tmp_path / "a.wav")
    assert heard == [PIECE, PIECE]  # the rest is too short to be heard
    assert found["starts"].tolist() == [0.5, 10.5] and found["symbols"].tolist() == ["m", "m"]
    assert len(found["power"]) == 20438 and np.allclose(found["power"][:-1], 0.25)  # the last one is half a step


def _planted_face(gap: float) -> Keypoints:
    """A face whose inner lips are `gap` face heights apart."""
    k, angle = Keypoints.empty(), np.linspace(0, 2 * np.pi, 68)
    k.face[:] = np.stack([0.5 + 0.1 * np.cos(angle), 0.5 + 0.1 * np.sin(angle)], 1)
    k.face[8], k.face[[19, 24]] = (0.5, 0.8), (0.5, 0.3)
    k.face[[61, 62, 63, 65, 66, 67]] = (0.5, 0.7)
    k.face, k.face_score[:] = set_lip_gap(k.face, gap).astype(np.float32), 0.9
    return k


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[float, float, str]]]:
    """A recogniser that hears what the list says, a piece each, and lips as far apart as the picture is bright."""
    heard: list[list[tuple[float, float, str]]] = []

    class Recogniser:
        def __init__(self) -> None:
            self.piece = -1

        def transcribe_waveform(self, samples: np.ndarray, rate: int) -> list[tuple[float, float, str]]:
            assert rate == 16_000 and samples.dtype == np.float32
            self.piece += 1
            return heard[self.piece]

        def phoneme_spans(self, spans: list[tuple[float, float, str]]) -> list[SimpleNamespace]:
            return [SimpleNamespace(start_ms=1000 * a, end_ms=1000 * b, phoneme=p) for a, b, p in spans]

    def lips(frames: np.ndarray) -> dict[str, np.ndarray]:
        faces = [_planted_face(float(frame.mean()) / 1000) for frame in frames]
        return keypoint_rows(faces, np.ones(len(frames)))

    people = PersonFeatures(PerFrame("planted", "1", lips, WIDTHS), "", {"lips": "0"})
    monkeypatch.setitem(sys.modules, "hama", SimpleNamespace(ASRModel=Recogniser))
    monkeypatch.setattr("cyberhost_model.lab.evaluation.features.phonemes.version", lambda name: "planted")
    monkeypatch.setattr(metric, "embedded_features", lambda context: people)
    return heard


def _video(path: Path, one: LipTrack, sound: np.ndarray | None = None) -> Path:
    """A video as bright as the lips of a track are open."""
    frames = np.repeat((one.gap * 1000).clip(0, 255).astype(np.uint8), 32 * 32 * 3).reshape(-1, 32, 32, 3)
    noise = np.random.default_rng(0).normal(0, 0.1, len(frames) * 640)
    return write(path, frames, sound=Sound.from_samples(noise if sound is None else sound, 16_000))


def _pieces(one: LipTrack) -> list[list[tuple[float, float, str]]]:
    return [[(a - t, b - t, p) for a, b, p in one.spans if t <= a < t + 10] for t in (0, 10)]


def test_a_set_is_measured_together_and_a_video_alone(
    planted: list[list[tuple[float, float, str]]], tmp_path: Path
) -> None:
    few = LipTrack(track(1).gap, np.zeros(FRAMES), np.zeros(FRAMES), track(1).spans[:10])
    for name, one in (("a", track()), ("b", few)):
        _video(tmp_path / "made" / f"{name}.mp4", one)
        planted += _pieces(one)
    write(tmp_path / "made" / "c.mp4", moving(0, 30), sound=Sound.from_samples(np.full(20_000, 0.1), 16_000))
    planted.append([])
    results = evaluate(tmp_path / "made", metrics=["closure"], cache=tmp_path / "cache", download=False).results
    assert [m.name for m in results.metrics] == ["Closure", "Opening", "LipLoudness"]
    closure = results.metric("Closure")
    assert closure is not None and closure.value is not None and closure.protocol == "cyberhost-articulation-1"
    expected = measure_effect([track(), few], EFFECTS["closure"])
    assert closure.value == pytest.approx(expected.value, abs=0.05)
    assert closure.extras["spans"] == 30 and closure.n == 2 and closure.weights == {"lips": "0"}
    videos = {row.video: row.values for row in results.videos}
    assert videos["a"]["Closure"].value == pytest.approx(measure_effect([track()], EFFECTS["closure"]).value, abs=0.05)
    assert "10 times b m p are heard, 16 are needed" in videos["b"]["Closure"].reason
    assert "long" in videos["c"]["Closure"].reason and videos["c"]["Closure"].coverage == 0
    opening = results.metric("Opening")
    assert opening is not None and opening.status == "skipped" and "0 times a aɪ" in opening.reason
    loudness = results.metric("LipLoudness")
    assert loudness is not None and loudness.value is not None and abs(loudness.value) < 0.2


def test_without_the_recogniser_or_a_sound_it_is_skipped(
    planted: list[list[tuple[float, float, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reason(video: Path) -> str:
        found = evaluate(video, metrics=["Closure", "PSNR"], cache=tmp_path / "cache", download=False).results
        summary = found.metric("Closure")
        assert summary is not None and summary.status == "skipped" and summary.value is None
        return summary.reason

    silent = write(tmp_path / "silent.mp4", moving(0, 30))
    assert "--audio" in reason(silent)
    spoken = _video(tmp_path / "spoken.mp4", track())
    broken = SimpleNamespace(ASRModel=lambda: (_ for _ in ()).throw(RuntimeError("libhama not available")))
    monkeypatch.setitem(sys.modules, "hama", broken)
    assert "libhama not available" in reason(spoken)
    monkeypatch.setitem(sys.modules, "hama", None)
    assert "cyberhost[articulation]" in reason(spoken)


def _has_hama() -> bool:
    try:
        importlib.metadata.version("hama")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def count_closures(clip: Path) -> int:
    """Count the lips' closures in a sentence of GRID. Its name says it: "bgbb2p" is "bin green by b two please"."""
    command, colour, preposition, letter, _, adverb = clip.stem
    return (command in "bp") + (colour == "b") + (preposition == "b") + (letter in "bmp") + (adverb == "p")


@pytest.mark.slow
@pytest.mark.skipif(not _has_hama(), reason="hama is not installed")
@pytest.mark.skipif(not FILMED.is_dir(), reason="the filmed clips are not on this machine (CYBERHOST_FILMED)")
def test_filmed_lips_close_at_their_own_sound_and_less_at_a_shifted_one(tmp_path: Path) -> None:
    import soundfile
    from eval_articulation import join_clips, wrong_sounds

    clips = [path for path in sorted(FILMED.glob("*.mp4")) if held_out(path.stem)]
    sounds = join_clips(sorted(clips, key=count_closures)[-8:], tmp_path / "videos", 4)
    closures = {}
    for word in ("its own", "1 s early"):
        folder = tmp_path / word
        folder.mkdir()
        for name, samples in wrong_sounds(sounds)[word].items():
            soundfile.write(folder / f"{name}.wav", samples, 16_000, subtype="FLOAT")
        results = evaluate(tmp_path / "videos", audio=folder, metrics=["Closure"], cache=tmp_path / "cache").results
        closure = results.metric("Closure")
        assert closure is not None and closure.value is not None
        closures[word] = closure.value
    assert closures["its own"] < -0.25 and closures["its own"] < closures["1 s early"] - 0.15


def test_the_shortest_video_keeps_its_controls_apart() -> None:
    frames = round(articulation.SHORTEST * 25)
    away = [min(shift % frames, -shift % frames) for shift in articulation.CONTROLS]
    assert min(away) >= 25
