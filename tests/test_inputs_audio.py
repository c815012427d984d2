"""Sound files: formats, rates, channels, resampling in pieces, and every bad case with its line."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from scipy.signal import resample_poly

from cyberhost_model.errors import InputError
from cyberhost_model.media import watchdog
from cyberhost_model.media.audio import Sound, load_audio, resample_stream
from cyberhost_model.media.ffmpeg import ffmpeg_binary
from cyberhost_model.media.sound_decoder import open_sound_file
from cyberhost_model.media.video_reader import stream_frames
from cyberhost_model.media.video_writer import write_video


def convert(source: Path, target: Path, *options: str) -> Path:
    subprocess.run([ffmpeg_binary(), "-v", "error", "-y", "-i", str(source), *options, str(target)], check=True)
    return target


def flat(count: int) -> Iterator[np.ndarray]:
    return iter([np.full((32, 32, 3), 99, np.uint8)] * count)


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
    assert many.channels == 2 and np.abs(many.mono16k()).max() == pytest.approx(0.3, abs=0.02)


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


def joined(parts: list[Path], target: Path) -> Path:
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "aac", "flac"])
def test_files_joined_end_to_end_are_heard_and_played_whole(tone, tmp_path: Path, suffix: str) -> None:
    part = convert(tone(rate=44_100, seconds=1.0), tmp_path / f"part.{suffix}")
    sound = load_audio(joined([part, part, part], tmp_path / f"joined.{suffix}"))
    assert abs(sound.duration - 3.0) < 0.3 and sound.warnings == ()
    assert np.abs(sound.mono16k()[int(2.3 * 16_000) :]).max() > 0.2  # the last part speaks
    out = write_video(flat(sound.n_frames(25)), tmp_path / "out.mp4", 25, sound)
    assert abs(load_audio(out).duration - sound.duration) < 1 / 25


def test_what_is_heard_is_what_the_film_plays(tone, tmp_path: Path) -> None:
    """Of every kind that once had a decoder for each of the two."""
    source = tone(rate=16_000, seconds=1.0)
    junk = tmp_path / "junk.mp3"
    junk.write_bytes(b"\x00" * 3000 + convert(source, tmp_path / "a.mp3").read_bytes())
    streamed = tmp_path / "streamed.flac"
    with streamed.open("wb") as file:
        subprocess.run([ffmpeg_binary(), "-v", "error", "-i", str(source), "-f", "flac", "-"], stdout=file, check=True)
    streamed_wav = tmp_path / "streamed.wav"
    with streamed_wav.open("wb") as file:
        subprocess.run([ffmpeg_binary(), "-v", "error", "-i", str(source), "-f", "wav", "-"], stdout=file, check=True)
    for path in (junk, streamed, streamed_wav, convert(source, tmp_path / "a.w64"), convert(source, tmp_path / "a.wv")):
        sound = load_audio(path)
        assert abs(sound.duration - 1.0) < 0.1 and sound.warnings == (), path
        out = write_video(flat(sound.n_frames(25)), tmp_path / "out.mp4", 25, sound, overwrite=True)
        played = load_audio(out)
        n = min(played.length, sound.length)
        assert abs(played.duration - sound.duration) < 1 / 25, path
        error = played.samples[1000 : n - 1000, 0] - sound.samples[1000 : n - 1000, 0]
        assert np.sqrt((error**2).mean()) < 0.02, path


@pytest.mark.parametrize("channels", [3, 6, 9, 11, 17, 33, 64])
def test_many_channels_are_mixed_down(tone, tmp_path: Path, channels: int) -> None:
    sound = load_audio(tone(rate=8_000, channels=channels))
    assert sound.channels == 2 and sound.warnings == ()
    assert np.abs(sound.mono16k()).max() == pytest.approx(0.3, abs=0.02)
    assert load_audio(write_video(flat(13), tmp_path / "out.mp4", 25, sound)).channels == 2


def test_65_channels_are_refused(tone) -> None:
    refused(tone(rate=8_000, channels=65), "65 channels")


def test_surround_is_mixed_by_its_positions(tmp_path: Path) -> None:
    """5.1: the centre, where speech is, is heard on both sides; the bass effects are not."""
    for position, sides in {"FL": (1, 0), "FC": (1, 1), "LFE": (0, 0), "BR": (0, 1)}.items():
        path = tmp_path / f"{position}.flac"
        made = ["-f", "lavfi", "-i", "sine=frequency=300:sample_rate=16000:duration=0.5", "-af"]
        made += [f"pan=5.1|{position}=c0"]
        subprocess.run([ffmpeg_binary(), "-v", "error", *made, str(path)], check=True)
        loud = np.abs(load_audio(path).samples).max(0) > 0.01
        assert tuple(loud.astype(int)) == sides, position


def test_channels_that_cancel_out_are_told_and_one_is_heard(tmp_path: Path) -> None:
    wave = (0.3 * np.sin(np.arange(16_000) / 9)).astype(np.float32)
    sound = Sound.from_samples(np.stack([wave, -0.95 * wave], 1), 16_000)
    (line,) = sound.warnings
    assert "cancel out" in line and "left" in line
    assert np.abs(sound.mono16k()).max() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_array_equal(sound.samples[:, 1], -np.float32(0.95) * wave)  # the film plays both
    for other in (np.stack([wave, 0 * wave], 1), np.stack([wave, np.roll(wave, 15)], 1)):
        assert Sound.from_samples(other, 16_000).warnings == ()
    many = np.stack([wave, -wave, wave, -wave], 1)
    soundfile.write(str(tmp_path / "many.wav"), many, 16_000)
    assert "cancel out" in load_audio(tmp_path / "many.wav").warnings[0]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3", "mkv", "webm", "aiff", "w64", "fast.m4a"])
def test_a_missing_end_is_told(tone, tmp_path: Path, suffix: str) -> None:
    options = ["-movflags", "+faststart"] if suffix == "fast.m4a" else []
    whole = convert(tone(seconds=6.0), tmp_path / f"whole.{suffix}", *options)
    assert load_audio(whole).warnings == ()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(0.7 * whole.stat().st_size)])
    sound = load_audio(cut)
    assert 1.0 < sound.duration < 5.5
    assert len(sound.warnings) == 1 and "end is missing" in sound.warnings[0], sound.warnings


def test_samples_that_are_no_numbers_are_told_and_silent(tmp_path: Path) -> None:
    samples = (0.3 * np.sin(np.arange(16_000) / 9)).astype(np.float32)
    samples[[50, 800]] = np.nan, np.inf
    samples[900] = 1e30  # finite, but more than any encoder takes
    soundfile.write(str(tmp_path / "nan.wav"), samples, 16_000, subtype="FLOAT")
    sound = load_audio(tmp_path / "nan.wav")
    assert len(sound.warnings) == 1 and "2 of the sound's samples are not numbers" in sound.warnings[0]
    assert sound.samples[50, 0] == 0 and np.abs(sound.samples).max() == 1
    assert load_audio(write_video(flat(25), tmp_path / "out.mp4", 25, sound)).duration == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("rate", [96_000, 192_000])
def test_a_high_rate_is_brought_to_what_a_film_has(tone, rate: int) -> None:
    sound = load_audio(tone(rate=rate, seconds=0.5))
    assert sound.rate == 96_000 and abs(sound.duration - 0.5) < 0.001


def test_what_only_libsndfile_knows_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.paf"
    soundfile.write(str(path), 0.3 * np.sin(np.arange(8000) / 9), 16_000, format="PAF", subtype="PCM_16")
    assert load_audio(path).length == 8000 and load_audio(path).warnings == ()


@pytest.mark.parametrize("late", [0.5, -0.4])
def test_a_late_start_within_a_film_is_kept(tone, tmp_path: Path, late: float) -> None:
    """Positive: the sound begins after the picture; negative: the picture after the sound."""
    film = tmp_path / "late.mkv"
    picture, sound = max(-late, 0), max(late, 0)
    inputs = ["-itsoffset", str(picture), "-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=2"]
    inputs += ["-itsoffset", str(sound), "-i", str(tone(seconds=1.0))]
    command = [ffmpeg_binary(), "-v", "error", *inputs, "-map", "0:v", "-map", "1:a", "-c:a", "pcm_s16le", str(film)]
    subprocess.run(command, check=True)
    heard = np.abs(load_audio(film).samples[:, 0])
    assert abs(int(np.argmax(heard > 0.1)) - sound * 16_000) < 80
    assert abs(len(heard) / 16_000 - (1 + sound)) < 0.01
    frames = sum(1 for _ in stream_frames(film))
    assert abs(frames / 25 - (2 + picture)) <= 0.04


def test_nothing_of_a_decoder_reaches_stderr(tone, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    part = convert(tone(rate=44_100), tmp_path / "part.mp3")
    sound = load_audio(joined([part, part], tmp_path / "joined.mp3"))
    write_video(flat(sound.n_frames(25)), tmp_path / "out.mp4", 25, sound)
    noise = tmp_path / "noise.mp3"
    noise.write_bytes(b"\xff\xfb" + np.random.default_rng(1).integers(0, 255, 9000, dtype=np.uint8).tobytes())
    with contextlib.suppress(InputError):
        load_audio(noise)
    assert capfd.readouterr() == ("", "")


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """Five minutes of stereo at 48 kHz would be 115 MB as float32."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "long.flac"
    made = ["-f", "lavfi", "-i", "sine=frequency=300:sample_rate=48000:duration=300", "-ac", "2"]
    subprocess.run([ffmpeg_binary(), "-v", "error", *made, str(path)], check=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sound = load_audio(path)
    assert sum(len(block) for block in sound.stream_mono16k()) == 300 * 16_000
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 60_000 * (1024 if sys.platform == "darwin" else 1)


@pytest.mark.skipif(os.name == "nt", reason="POSIX files")
def test_what_is_no_ordinary_file_is_refused_at_once(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.wav"
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.wav"))
        began = time.monotonic()
        refused(fifo, "is a pipe")
        refused(tmp_path / "socket.wav", "is a socket")
        refused(Path("/dev/zero"), "is a device")
        assert time.monotonic() - began < 60
    refused(Path("https://example.org/speech.wav"), "is an address", "download it first")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_an_ffmpeg_that_stops_ends_the_reading(tone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "IDLE_SECONDS", 2.0)
    path = tone(rate=48_000, seconds=60.0, channels=2)
    with open_sound_file(path) as opened:
        next(opened.blocks)
        (child,) = psutil.Process().children()
        child.suspend()
        with pytest.raises(InputError, match=r"tone\.wav: ffmpeg stopped"):
            for _ in opened.blocks:
                pass


def test_standard_input(tone, command: list[str]) -> None:
    script = "from cyberhost_model.media.audio import load_audio; print(load_audio('-').length)"
    with tone(seconds=0.5).open("rb") as file:
        run = subprocess.run([command[0], "-c", script], stdin=file, capture_output=True, text=True)
    assert run.stdout == "8000\n", run.stderr
    run = subprocess.run([command[0], "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert "standard input: is empty" in run.stderr
