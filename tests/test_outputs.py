"""Outputs: nothing is replaced that was not to be, links are written through, and a failure leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cyberhost_cli.exit_status import ExitStatus, status_of
from cyberhost_cli.main import main
from cyberhost_model.errors import InputError, OutputError
from cyberhost_model.media.files import atomic_path, check_target, unused_removed, written_whole
from cyberhost_model.media.video_writer import VideoWriter

POSIX = pytest.mark.skipif(os.name == "nt", reason="POSIX links and limits")
GREY = np.full((64, 64, 3), 128, np.uint8)


@pytest.mark.parametrize("links", [True, False], ids=["links", "no hard links"])
def test_what_appeared_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "no links on this file system")

        monkeypatch.setattr(os, "link", refuse)
    out = tmp_path / "out.txt"
    with pytest.raises(OutputError, match=r"out-2\.txt"), atomic_path(out, overwrite=False) as part:
        part.write_text("second")
        out.write_text("first")
    assert out.read_text() == "first" and (tmp_path / "out-2.txt").read_text() == "second"
    with pytest.raises(OutputError, match=r"out-3\.txt"), written_whole(out, overwrite=False) as part:
        part.write_text("third")
    with written_whole(out) as part:
        part.write_text("last")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
        "out.txt": "last",
        "out-2.txt": "second",
        "out-3.txt": "third",
    }


def test_two_videos_with_one_name(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    with pytest.raises(OutputError, match=r"out-2\.mp4"), VideoWriter(out, (64, 64)) as slow:
        slow.add(GREY)
        with VideoWriter(out, (64, 64)) as quick:
            quick.add(GREY)
            quick.add(GREY)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out-2.mp4", "out.mp4"]
    with VideoWriter(out, (64, 64), overwrite=True) as again:
        again.add(GREY)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out-2.mp4", "out.mp4"]


@POSIX
@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to nothing yet"])
def test_a_link_is_written_through(tmp_path: Path, there: bool) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if there:
        (disk / "kept.mp4").write_text("old")
        with pytest.raises(OutputError, match="exists"):
            check_target(disk / "kept.mp4", (".mp4",))
    link = tmp_path / "out.mp4"
    link.symlink_to(Path("disk") / "kept.mp4")
    with VideoWriter(link, (64, 64), overwrite=there) as writer:
        writer.add(GREY)
    assert link.is_symlink() and (disk / "kept.mp4").stat().st_size > 500
    assert [p.name for p in disk.iterdir()] == ["kept.mp4"]


@POSIX
def test_a_link_into_a_missing_folder_is_told_before_work(tmp_path: Path) -> None:
    link = tmp_path / "out.mp4"
    link.symlink_to(tmp_path / "missing" / "out.mp4")
    with pytest.raises(OutputError, match="does not exist"):
        check_target(link, (".mp4",))


def test_folders_made_for_nothing_are_removed(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b"
    with pytest.raises(InputError), unused_removed(place, ".lock"):
        place.mkdir(parents=True)
        (place / ".lock").write_text("me")
        raise InputError("nothing to read")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError), unused_removed(place, ".lock"):
        place.mkdir(parents=True)
        (place / ".lock").write_text("me")
        (place / "first.txt").write_text("a result")
        raise InputError("later")
    assert sorted(p.name for p in place.iterdir()) == [".lock", "first.txt"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--stage", "audio", "--speech", "nowhere"],
        ["train", "--stage", "1", "--data", "nowhere"],
        ["data", "encode", "nowhere"],
        ["weights", "assemble", "--network", "nowhere"],
        ["eval", "nowhere"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_failure_leaves_no_folder(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for output in ("", "new/deep/folder" if arguments[0] != "eval" else "new"):
        assert main([*arguments, "-o", output]) not in (ExitStatus.OK, ExitStatus.ERROR)
        assert list(tmp_path.iterdir()) == [], capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("can't start new thread"),
        RuntimeError("could not create a primitive"),
        RuntimeError("std::bad_alloc"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        ImportError("libfoo.so: cannot allocate memory in static TLS block"),
    ],
    ids=str,
)
def test_too_little_memory_is_8(error: BaseException) -> None:
    assert status_of(error) == ExitStatus.RESOURCE
    wrapped = RuntimeError("a library failed to load")
    wrapped.__cause__ = error
    assert status_of(wrapped) == ExitStatus.RESOURCE
    assert status_of(RuntimeError("shapes differ")) == ExitStatus.ERROR


# How much a process has mapped once it has imported everything differs between machines: the limit stands above that.
LIMITED = """
import json, resource, sys
import cyberhost_model.runtime.pipeline, cyberhost_model.runtime.render
from cyberhost_cli.main import main
codes = []
for more in (8 << 20, 64 << 20):
    mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + more, resource.RLIM_INFINITY))
    codes.append(main())
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps(codes))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="says what a process has mapped")
def test_memory_limit(portrait_file: Path, tone, tmp_path: Path) -> None:
    """A model cannot be loaded with 8 MB more, and no video be made with 64 MB more."""
    out = tmp_path / "out"
    out.mkdir()
    job = ["animate", str(portrait_file), str(tone(seconds=0.2)), "-o", str(out / "out.mp4"), "--steps", "1"]
    done = subprocess.run([sys.executable, "-c", LIMITED, *job], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and json.loads(done.stdout) == [ExitStatus.RESOURCE] * 2, done.stderr
    assert done.stderr.count("\n") == 2 and all("memory" in line for line in done.stderr.splitlines())
    assert list(out.iterdir()) == []


@POSIX
@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full"])
def test_a_job_goes_on_without_stderr(
    redirect: str, command: list[str], portrait_file: Path, tone, tmp_path: Path
) -> None:
    if "full" in redirect and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    out = tmp_path / "out.mp4"
    silent = tone(seconds=0.1, gain=0.0)  # which is warned of
    call = [*command, "animate", str(portrait_file), str(silent), "-o", str(out), "--steps", "1", "--json"]
    done = subprocess.run(["sh", "-c", f'exec "$@" {redirect}', "sh", *call], capture_output=True, text=True)
    assert done.returncode == ExitStatus.OK and out.is_file()
    assert json.loads(done.stdout)["frames"] == 3
    missing = [*command, "animate", "no.png", str(silent), "-o", str(tmp_path / "no.mp4")]
    done = subprocess.run(["sh", "-c", f'exec "$@" {redirect}', "sh", *missing], capture_output=True, text=True)
    assert done.returncode == ExitStatus.INPUT and done.stdout == ""
