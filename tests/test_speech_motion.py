"""Labels from speech, and the random conditions speech is heard under."""

import numpy as np
import pytest

from cyberhost_model.lab.synthetic.speech_augment import AugmentConfig, augment_speech, coloured_noise
from cyberhost_model.lab.synthetic.speech_motion import motion_length, speech_motion

RATE = 16_000


def vowel(first: float, second: float, seconds: float, pitch: float = 120.0) -> np.ndarray:
    """A sung vowel: harmonics of `pitch` under two formants."""
    t = np.arange(int(seconds * RATE)) / RATE
    out = np.zeros_like(t)
    for hertz in np.arange(pitch, 4000, pitch):
        gain = np.exp(-(((hertz - first) / 90) ** 2)) + 0.5 * np.exp(-(((hertz - second) / 120) ** 2)) + 0.01
        out += gain * np.sin(2 * np.pi * hertz * t)
    return (0.1 * out).astype(np.float32)


def syllables() -> np.ndarray:
    """Half a second each of a (open), i (spread), u (rounded), with 0.4 s of a quiet room between them and around."""
    silence = np.zeros(int(0.4 * RATE), np.float32)
    parts = [silence]
    for first, second in ((750, 1200), (300, 2300), (320, 850)):
        parts += [vowel(first, second, 0.5), silence]
    samples = np.concatenate(parts)
    return samples + np.random.default_rng(9).standard_normal(len(samples)).astype(np.float32) * 3e-4  # -70 dBFS


A, I, U = slice(12, 20), slice(35, 42), slice(57, 65)  # frames well inside each vowel  # noqa: E741
PAUSES = [slice(0, 6), slice(25, 30), slice(47, 53), slice(70, 77)]


def test_open_vowels_open_spread_vowels_spread_and_pauses_close() -> None:
    motion = speech_motion(syllables())
    assert motion.opening[A].mean() > 0.7
    assert motion.opening[A].mean() > 1.3 * max(motion.opening[I].mean(), motion.opening[U].mean())
    assert motion.width[I].mean() > 0.3 > -0.1 > motion.width[U].mean()
    for pause in PAUSES:
        assert motion.opening[pause].max() < 0.02
        assert np.abs(motion.width[pause]).max() < 0.05
    assert motion.speech[A].all() and not motion.speech[:6].any()
    assert motion.voiced[A].min() > 0.5


def test_ranges_length_and_time() -> None:
    samples = syllables()
    for fps in (24.0, 25.0, 29.97, 30.0):
        motion = speech_motion(samples, fps)
        assert len(motion) == motion_length(len(samples), fps) == int(np.ceil(len(samples) / RATE * fps))
        assert motion.opening.dtype == np.float32 and 0 <= motion.opening.min() <= motion.opening.max() <= 1
        onset = np.argmax(motion.opening > 0.3) / fps
        assert abs(onset - 0.4) < 0.08
    assert len(speech_motion(samples[:100])) == 1
    with pytest.raises(ValueError, match="mono"):
        speech_motion(np.zeros((10, 2), np.float32))


def test_gain_does_not_matter() -> None:
    samples = syllables()
    loud = speech_motion(samples)
    quiet = speech_motion(samples * 0.1)
    np.testing.assert_allclose(quiet.opening, loud.opening, atol=0.01)
    np.testing.assert_allclose(quiet.width, loud.width, atol=0.02)


@pytest.mark.parametrize("decibel", [None, -60, -40, -20])
def test_silence_and_noise_alone_keep_the_mouth_closed(decibel: float | None) -> None:
    rng = np.random.default_rng(0)
    noise = np.zeros(5 * RATE) if decibel is None else rng.standard_normal(5 * RATE) * 10 ** (decibel / 20)
    motion = speech_motion(noise.astype(np.float32))
    assert motion.opening.max() == 0 and motion.energy.max() == 0 and not motion.speech.any()


def test_noise_at_15_db_changes_little() -> None:
    samples = syllables()
    noise = np.random.default_rng(0).standard_normal(len(samples)).astype(np.float32)
    noisy = speech_motion(samples + noise * samples.std() * 10 ** (-15 / 20))
    clean = speech_motion(samples)
    assert np.corrcoef(noisy.opening, clean.opening)[0, 1] > 0.97
    assert max(noisy.opening[pause].max() for pause in PAUSES) < 0.1


def test_augmentation_depends_on_its_seed_alone() -> None:
    samples = syllables()
    one, same, other = (augment_speech(samples, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.heard, same.heard)
    np.testing.assert_array_equal(one.clean, same.clean)
    assert len(other.heard) != len(one.heard) or not np.array_equal(other.heard, one.heard)


def test_pauses_are_in_both_recordings_and_close_the_mouth() -> None:
    samples = vowel(750, 1200, 3.0) * (1 + 0.8 * np.sin(np.arange(3 * RATE) / RATE * 2 * np.pi * 4)).astype(np.float32)
    config = AugmentConfig(gain_db=(0, 0), noise=0, pause=1.0, tone=0, band=0, silence=0)
    both = augment_speech(samples, np.random.default_rng(1), config)
    added = len(both.clean) - len(samples)
    assert 3 * 0.3 * RATE - 3 <= added <= 3 * 2 * RATE
    np.testing.assert_allclose(both.clean, both.heard, atol=1e-6)
    closed = speech_motion(both.clean).opening < 0.02
    assert abs(closed.sum() - added / RATE * 25) <= 12


def test_gain_and_noise_are_as_asked() -> None:
    samples = vowel(750, 1200, 2.0)
    config = AugmentConfig(gain_db=(-12, -12), noise=1, snr_db=(20, 20), pause=0, tone=0, band=0, silence=0)
    both = augment_speech(samples, np.random.default_rng(2), config)
    assert np.array_equal(both.clean, samples)
    noise = both.heard * 10 ** (12 / 20) - samples
    assert 20 * np.log10(samples.std() / noise.std()) == pytest.approx(20, abs=1)
    for seed in range(8):
        assert np.mean(coloured_noise(RATE, np.random.default_rng(seed)) ** 2) == pytest.approx(1, rel=1e-3)
