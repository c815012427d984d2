"""Sound files: formats, rates, channels, resampling in pieces, and every bad case with its line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from cyberhost_model.errors import InputError
from cyberhost_model.media.audio import Sound, load_audio, resample_stream
from cyberhost_model.media.ffmpeg import ffmpeg_binary


def convert(source: Path, target: Path, *options: str) -> Path:
    subprocess.run([ffmpeg_binary(), "-v", "error", "-y", "-i", str(source), *options, str(target)], check=True)
    return target


def refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_audio(path)
    message = str(caught.value)
    assert "\n" not in message and path.name in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "m4a", "aac", "opus", "webm", "mov"])
def test_formats(tone, tmp_path: Path, suffix: str) -> None:
    source = tone(rate=48_000, seconds=1.0, channels=2)
    path = source if suffix == "wav" else convert(source, tmp_path / f"a.{suffix}")
    sound = load_audio(path)
    assert (sound.rate, sound.channels) == (48_000, 2)
    assert abs(sound.duration - 1.0) < 0.06  # raw AAC has no way to say how much of its padding is none
    assert sound.samples.shape == (sound.length, 2) and sound.samples.dtype == np.float32
    mono = sound.mono16k()
    loudness = np.sqrt((mono[2000:-2000] ** 2).mean())
    assert abs(loudness - 0.3 / np.sqrt(2)) < 0.02
    strongest = np.argmax(np.abs(np.fft.rfft(mono[:16_000], 16_000)))
    assert abs(int(strongest) - 220) <= 1


def test_sound_of_a_video(tone, tmp_path: Path) -> None:
    source = tone(seconds=1.0)
    video = tmp_path / "film.mp4"
    pattern = ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=10:duration=1"]
    subprocess.run([ffmpeg_binary(), "-v", "error", *pattern, "-i", str(source), str(video)], check=True)
    sound = load_audio(video)
    assert sound.rate == 16_000 and abs(sound.duration - 1.0) < 0.01
    mute = convert(video, tmp_path / "mute.mp4", "-an", "-c:v", "copy")
    refused(mute, "holds no sound")


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 44_101])
def test_resampling_in_pieces_equals_the_whole(rate: int) -> None:
    noise = np.random.default_rng(rate).standard_normal((int(rate * 1.37), 2)).astype(np.float32) * 0.1
    common = np.gcd(rate, 16_000)
    whole = resample_poly(noise.mean(axis=1).astype(np.float64), 16_000 // common, rate // common)
    pieces = np.concatenate(list(resample_stream(iter(np.array_split(noise, 13)), rate, 16_000, seconds=0.3)))
    assert pieces.dtype == np.float32 and pieces.shape == whole.shape
    np.testing.assert_allclose(pieces, whole, atol=1e-6)
    assert len(pieces) == int(np.ceil(len(noise) * 16_000 / rate))


def test_stream_is_bounded(tone) -> None:
    sound = load_audio(tone(rate=44_100, seconds=25.0))
    blocks = list(sound.stream_mono16k(seconds=5.0))
    assert max(len(block) for block in blocks) <= 6 * 16_000
    assert sum(len(block) for block in blocks) == 25 * 16_000


def test_missing_and_unreadable(tmp_path: Path) -> None:
    refused(tmp_path / "none.wav", "no such sound file")
    refused(tmp_path, "folder")
    empty = tmp_path / "empty.wav"
    empty.touch()
    refused(empty, "0 bytes")
    no_samples = tmp_path / "nothing.wav"
    soundfile.write(str(no_samples), np.zeros((0, 1)), 16_000)
    refused(no_samples, "no sound")


@pytest.mark.parametrize("suffix", ["wav", "mp3", "m4a", "flac", "ogg", "mp4", "aac"])
def test_text_and_noise_with_a_sound_name(tmp_path: Path, suffix: str) -> None:
    text = tmp_path / f"text.{suffix}"
    text.write_text("This is no sound. " * 200)
    refused(text, "not a sound file")
    if suffix != "aac":  # random bytes hold AAC frame marks now and then
        noise = tmp_path / f"noise.{suffix}"
        noise.write_bytes(np.random.default_rng(1).integers(0, 255, 40_000, dtype=np.uint8).tobytes())
        refused(noise)


def test_a_playlist_opens_no_other_file(tone, tmp_path: Path) -> None:
    source = tone()
    for name, text in {
        "list.wav": f"ffconcat version 1.0\nfile '{source}'\n",
        "list.m4a": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{source}\n#EXT-X-ENDLIST\n",
    }.items():
        (tmp_path / name).write_text(text)
        refused(tmp_path / name, "not a sound file")


def test_damaged(tone, tmp_path: Path) -> None:
    m4a = convert(tone(seconds=2.0), tmp_path / "cut.m4a")
    m4a.write_bytes(m4a.read_bytes()[:2000])
    refused(m4a)
    header = tmp_path / "header.wav"
    header.write_bytes(tone("b.wav").read_bytes()[:20])
    refused(header)


def test_cut_wav_keeps_what_is_there(tone, tmp_path: Path) -> None:
    cut = tmp_path / "cut.wav"
    cut.write_bytes(tone(seconds=1.0).read_bytes()[: 44 + 16_000])  # half of the samples
    assert load_audio(cut).length == 8_000


def test_not_a_number(tmp_path: Path) -> None:
    samples = np.zeros(1600, dtype=np.float32)
    samples[800] = np.nan
    path = tmp_path / "nan.wav"
    soundfile.write(str(path), samples, 16_000, subtype="FLOAT")
    refused(path, "not numbers")


def test_very_short_is_taken(tone) -> None:
    sound = load_audio(tone(seconds=0.05))
    assert sound.length == 800 and sound.n_frames(25) == 2 and len(sound.mono16k()) == 800
    assert load_audio(tone(seconds=1 / 16_000)).n_frames(25) == 1


def test_frames_cover_the_sound_exactly() -> None:
    for length, fps, frames in [
        (16_000, 25, 25),
        (16_001, 25, 26),
        (15_999, 25, 25),
        (16_000, 29.97, 30),
        (640, 25, 1),
    ]:
        assert Sound.from_samples(np.full(length, 0.1), 16_000).n_frames(fps) == frames


def test_8_khz_and_8_channels(tone) -> None:
    narrow = load_audio(tone(rate=8_000, seconds=1.0))
    assert narrow.rate == 8_000 and len(narrow.mono16k()) == 16_000 and not narrow.warnings
    many = load_audio(tone(rate=48_000, channels=8, seconds=1.0))
    assert many.channels == 8 and np.abs(many.mono16k()).max() == pytest.approx(0.3, abs=0.02)


def test_silent_and_clipped_warn(tone) -> None:
    (line,) = load_audio(tone(gain=0.0)).warnings
    assert "silent" in line
    clipped = np.clip(np.sin(np.arange(16_000) / 9) * 4, -1, 1)
    (line,) = Sound.from_samples(clipped, 16_000).warnings
    assert "clipped" in line
    assert load_audio(tone(gain=0.3)).warnings == ()


def test_example_speech(speech_file: Path) -> None:
    sound = load_audio(speech_file)
    assert sound.rate == 16_000 and 3 < sound.duration < 4 and sound.warnings == ()
