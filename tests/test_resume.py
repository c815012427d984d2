"""A video that was stopped goes on, and its frames are those of one that was not."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cyberhost_cli.main import main
from cyberhost_model import CyberHost
from cyberhost_model.errors import OutputError
from cyberhost_model.marks.marking import FrameDigests
from cyberhost_model.media.audio import load_audio
from cyberhost_model.media.video_reader import probe_video, read_frames
from cyberhost_model.runtime import resume
from cyberhost_model.runtime.pipeline import Animation
from cyberhost_model.runtime.resume import facts_of, state_folder

FACTS = {"sound": "1"}


@pytest.fixture(scope="module")
def speech(speech_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.6 s of speech: 40 frames, four clips, the last one of four frames."""
    samples, rate = soundfile.read(speech_file)
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(str(path), samples[: round(1.6 * rate)], rate)
    return path


@pytest.fixture(scope="module", autouse=True)
def short_segments() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "SEGMENT_FRAMES", 24)  # two clips, so that a short video has several
        yield


@pytest.fixture(scope="module")
def animation(host: CyberHost, portrait_file: Path, speech: Path) -> Callable[[], Animation]:
    return lambda: host.animate(portrait_file, load_audio(speech), steps=1, size=256)


@pytest.fixture(scope="module")
def whole(
    animation: Callable[[], Animation], short_segments: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, FrameDigests]:
    """A video that was not stopped, and the digests of its frames as they were made."""
    digests = FrameDigests()
    return animation().save(tmp_path_factory.mktemp("whole") / "whole.mp4", facts=FACTS, digests=digests), digests


def frames_digest(video: Path) -> tuple[int, str]:
    """Count the frames of a video, and digest them."""
    frames = np.concatenate(list(read_frames(probe_video(video))))
    return len(frames), hashlib.sha256(frames.tobytes()).hexdigest()


class Stop(BaseException):
    """What a test stops a video with."""


def stop_at(frame: int) -> Callable[[int, int | None], None]:
    def progress(done: int, total: int | None) -> None:
        if done == frame:
            raise Stop

    return progress


def test_frames_are_those_of_an_uninterrupted_video(
    animation: Callable[[], Animation], whole: tuple[Path, FrameDigests], tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    for frame in (15, 24, 39):
        with pytest.raises(Stop) as stopped:
            animation().save(out, progress=stop_at(frame), facts=FACTS)
        assert "goes on from second" in stopped.value.resume_hint  # type: ignore[attr-defined]
        assert not out.exists() and state_folder(out).is_dir()
    begun: list[int] = []
    told: list[str] = []
    animation().save(out, progress=lambda done, total: begun.append(done), facts=FACTS, tell=told.append)
    assert begun[0] == 24 and begun[-1] == 40  # the first segment is not made again
    assert len(told) == 1 and "goes on from second 1.6" in told[0]
    assert frames_digest(out) == frames_digest(whole[0]) and frames_digest(out)[0] == 40
    assert abs(load_audio(out).duration - 1.6) <= 1 / 25
    assert {p.name for p in tmp_path.iterdir()} == {"out.mp4"}


def test_clips_are_not_sampled_again(
    animation: Callable[[], Animation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cyberhost_model.runtime.render import Rendering

    out = tmp_path / "out.mp4"
    with pytest.raises(Stop):
        animation().save(out, progress=stop_at(30), facts=FACTS)
    sampled = []
    sample = Rendering.sample
    monkeypatch.setattr(
        Rendering, "sample", lambda self, clip, past: sampled.append(clip.index) or sample(self, clip, past)
    )
    animation().save(out, facts=FACTS)
    assert sampled == [3]


def test_another_job_begins_anew(animation: Callable[[], Animation], tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    for facts, wanted, words in (({"sound": "2"}, True, ["another sound"]), (FACTS, False, [])):
        with pytest.raises(Stop):
            animation().save(out, progress=stop_at(30), facts=FACTS)
        told: list[str] = []
        begun: list[int] = []

        def first(done: int, total: int | None, begun: list[int] = begun) -> None:
            begun.append(done)
            raise Stop

        with pytest.raises(Stop):
            animation().save(out, progress=first, facts=facts, resume=wanted, tell=told.append)
        assert begun == [0] and len(told) == len(words) and all(w in t for w, t in zip(words, told, strict=True))
        assert not state_folder(out).exists()  # nothing was finished


def test_a_damaged_state_is_not_trusted(
    animation: Callable[[], Animation], whole: tuple[Path, FrameDigests], tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    with pytest.raises(Stop):
        animation().save(out, progress=stop_at(30), facts=FACTS)
    for clip in state_folder(out).glob("clip-*.safetensors"):
        clip.write_bytes(clip.read_bytes()[:100])
    animation().save(out, facts=FACTS)
    assert frames_digest(out) == frames_digest(whole[0])


def test_two_jobs_with_one_name(animation: Callable[[], Animation], tmp_path: Path) -> None:
    out, told = tmp_path / "out.mp4", []
    first = animation()

    def second_runs(done: int, total: int | None) -> None:
        if done == 15:
            animation().save(out, facts=FACTS, tell=told.append)

    with pytest.raises(OutputError, match=r"out-2\.mp4"):
        first.save(out, progress=second_runs, facts=FACTS)
    assert len(told) == 1 and "in use" in told[0]
    assert {p.name for p in tmp_path.iterdir()} == {"out.mp4", "out-2.mp4"}


def test_a_state_has_a_name_that_file_systems_take() -> None:
    assert state_folder(Path("a/out.mp4")) == Path("a/.out.mp4.part")
    assert len(state_folder(Path("a") / ("x" * 251 + ".mp4")).name) < 255


def test_facts(tmp_path: Path) -> None:
    file, folder = tmp_path / "a.wav", tmp_path / "model"
    folder.mkdir()
    file.write_text("one")
    (folder / "config.json").write_text("{}")
    facts = facts_of(sound=file, model=folder, seed=3)
    assert facts["seed"] == "3" and facts == facts_of(sound=file, model=folder, seed=3)
    file.write_text("two")
    (folder / "config.json").write_text("[]")
    changed = facts_of(sound=file, model=folder, seed=4)
    assert {name for name in facts if facts[name] != changed[name]} == {"sound", "model", "seed"}
    with pytest.raises(OSError, match="no file"):
        facts_of(sound=tmp_path / "gone.wav")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_killed_from_the_shell(
    loaded_once,
    command: list[str],
    portrait_file: Path,
    speech_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resume, "SEGMENT_FRAMES", 240)  # as the shell's process has it
    out = tmp_path / "out" / "out.mp4"
    out.parent.mkdir()
    samples, rate = soundfile.read(speech_file)
    sound = tmp_path / "speech.wav"
    soundfile.write(str(sound), samples[: round(1.92 * rate)], rate)  # four clips
    arguments = ["animate", str(portrait_file), str(sound), "-o", str(out), "--steps", "1", "--size", "256"]
    process = subprocess.Popen([*command, *arguments], stderr=subprocess.DEVNULL)
    folder, deadline = state_folder(out), time.monotonic() + 600
    while len(list(folder.glob("clip-*"))) < 1 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads((folder / "job.json").read_text())["seed"] == "0" and not out.exists()
    assert main(arguments) == 0
    assert "goes on from second" in capsys.readouterr().err
    assert [p.name for p in out.parent.iterdir()] == ["out.mp4"]
    whole = tmp_path / "whole.mp4"
    assert main([*arguments[:4], str(whole), *arguments[5:]]) == 0
    assert frames_digest(out) == frames_digest(whole)


def test_a_record_has_the_frames_that_were_made_before_a_stop(
    animation: Callable[[], Animation], whole: tuple[Path, FrameDigests], tmp_path: Path
) -> None:
    """The digests of frames that are not made again are kept, whatever the video is stopped at."""
    out = tmp_path / "out.mp4"
    for frame in (30, 40):
        with pytest.raises(Stop):
            animation().save(out, progress=stop_at(frame), facts=FACTS, digests=FrameDigests())
    again = FrameDigests()
    animation().save(out, facts=FACTS, digests=again)
    assert again.hexdigest() == whole[1].hexdigest() != FrameDigests().hexdigest()
    with pytest.raises(Stop):
        animation().save(tmp_path / "other.mp4", progress=stop_at(30), facts=FACTS, digests=FrameDigests())
    (state_folder(tmp_path / "other.mp4") / "frames.sha256").write_text("ab\n")
    with pytest.raises(OutputError, match="--no-resume"):
        animation().save(tmp_path / "other.mp4", facts=FACTS, digests=FrameDigests())
