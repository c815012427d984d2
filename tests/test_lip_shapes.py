"""Lips that were seen, and the map from phonemes to them."""

from pathlib import Path

import numpy as np
import pytest

from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.synthetic.lip_shapes import fit_lip_map, read_filmed_lips
from cyberhost_model.speech.lip_head import CLOSURE, GAP, TUCK, WIDTH
from cyberhost_model.speech.phonemes import CLASSES, PhonemeTrack, phoneme_track

WORD = ("m", "a", "t", "u", "f", "i")
SHAPES = {
    "m": (0.001, 0.28),
    "a": (0.06, 0.28),
    "t": (0.03, 0.28),
    "u": (0.02, 0.24),
    "f": (0.01, 0.28),
    "i": (0.03, 0.31),
    "": (0.001, 0.28),
}
"""Phoneme -> gap and width of the lips, in face heights."""


def sentence(rng: np.random.Generator) -> PhonemeTrack:
    spans, at = [], 0.5
    for phoneme in rng.choice(WORD, 12):
        spans.append((at, at + 0.16, str(phoneme)))
        at += 0.16
    return phoneme_track(at + 0.5, spans)


def seen(speech: PhonemeTrack, path: Path, rng: np.random.Generator) -> Path:
    """What a face mesh says of lips that move as SHAPES say; one face is not found."""
    names = {"p": "", **{k: k for k in WORD}}
    times = (np.arange(int(speech.seconds * 25)) + 0.5) / 25
    rows = np.array([SHAPES.get(names.get(CLASSES[i], ""), SHAPES[""]) for i in speech.at(times)], np.float32)
    gap, width = rows.T + rng.normal(0, 0.0005, rows.T.shape).astype(np.float32)
    gap[3] = width[3] = np.nan
    upper, lower = np.full_like(gap, 0.04), np.full_like(gap, 0.06)
    np.savez(path, gap=gap.clip(0), width=width, upper_lip=upper, lower_lip=lower, fps=25.0)
    return path


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory):
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("lips")
    heard = [sentence(rng) for _ in range(24)]
    clips = read_filmed_lips([seen(speech, folder / f"{i}.npz", rng) for i, speech in enumerate(heard)], heard)
    return heard, clips, fit_lip_map(clips[:20], heard[:20])


def test_units_are_the_speakers_own(learnt) -> None:
    heard, clips, _ = learnt
    lips = np.concatenate([clip.lips for clip in clips])
    assert np.isnan(lips[3, GAP]) and np.isfinite(np.delete(clips[0].lips, 3, 0)).all()
    assert np.nanpercentile(lips[:, GAP], 98) == pytest.approx(1, abs=0.1) and np.nanmin(lips[:, GAP]) == 0
    assert np.nanmin(lips[:, WIDTH]) == pytest.approx(-1, abs=0.2)


def test_the_map_predicts_sentences_it_has_not_seen(learnt) -> None:
    heard, clips, lip_map = learnt
    unseen = zip(heard[20:], clips[20:], strict=True)
    predicted = np.concatenate([lip_map.lips(speech, clip.times) for speech, clip in unseen])
    true = np.concatenate([clip.lips for clip in clips[20:]])
    known = np.isfinite(true).all(1)
    assert np.corrcoef(predicted[known, GAP], true[known, GAP])[0, 1] > 0.8
    assert np.corrcoef(predicted[known, WIDTH], true[known, WIDTH])[0, 1] > 0.7


def test_closure_tuck_and_rest_are_exact(learnt) -> None:
    lip_map = learnt[2]
    speech = phoneme_track(4.0, [(1.0, 1.2, "a"), (1.2, 1.23, "b"), (1.23, 1.4, "a"), (1.4, 1.5, "v"), (1.5, 1.7, "u")])
    lips = lip_map.lips(speech, np.array([0.2, 1.215, 1.45, 3.5]))
    assert lips[[0, 3], GAP].tolist() == lips[[0, 3], WIDTH].tolist() == [0, 0]
    assert lips[1, [GAP, CLOSURE]] == pytest.approx([0, 1], abs=1e-6) and lips[2, [TUCK, CLOSURE]].tolist() == [1, 0]
    assert not lip_map.lips(phoneme_track(1.0, []), np.arange(5) / 25).any()


def test_too_little_speech_is_refused(tmp_path) -> None:
    rng = np.random.default_rng(0)
    speech = sentence(rng)
    with pytest.raises(TrainingError, match="too little speech"):
        read_filmed_lips([seen(speech, tmp_path / "a.npz", rng)], [speech])
    (tmp_path / "b.npz").write_bytes(b"")
    with pytest.raises(TrainingError, match="label the clips again"):
        read_filmed_lips([tmp_path / "b.npz"], [speech])
