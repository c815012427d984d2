"""Writing a video that can be gone on with: its state lies in a folder beside it until it is whole.

`.OUT.mp4.part` holds what the video depends on (job.json), the finished segments (`media.segments`) and the clips after
them (`runtime.clip_store`). A video that was stopped in any way goes on from there; its frames are those of one that
was not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cyberhost_model.errors import ExistsError, OutputError
from cyberhost_model.marks.container import program_version
from cyberhost_model.media.audio import Sound
from cyberhost_model.media.ffmpeg import ffmpeg_binary
from cyberhost_model.media.file_kinds import segment_suffix
from cyberhost_model.media.files import digest_of, written_whole
from cyberhost_model.media.segments import SegmentWriter, finished_segments, join_segments
from cyberhost_model.media.subtitles import Subtitles
from cyberhost_model.media.video_writer import check_output, write_video
from cyberhost_model.reading import Unreadable, read_json
from cyberhost_model.runtime.clip_store import ClipStore

SEGMENT_FRAMES = 240
"""About how many frames a segment has: as many as x264 puts between two whole pictures anyway."""
_JOB, _LOCK = "job.json", ".lock"
_LAYOUT = 1
_NAME_BYTES = 255  # the longest name that file systems take
LARGE = 1 << 26  # bytes from which a model's file is known by its size and time instead of its content


@dataclass(frozen=True)
class Film:
    """What is to be written: frames that can begin at any clip, and what goes with them."""

    render: Callable[[ClipStore | None], Iterator[np.ndarray]]
    """Makes the frames, uint8 (H, W, 3 or 4); with a store, those that it does not say are encoded."""
    total: int
    """Frames."""
    clip: int
    """Frames of a clip."""
    size: tuple[int, int]
    """(W, H)."""
    fps: float
    sound: Sound | None
    sound_seconds: float | None
    tags: Callable[[], Mapping[str, str]] = dict
    """Makes those of the container; inputs are looked at for it, where possible after the frames."""
    finish: Callable[[Path], None] | None = None
    """Called with the whole file before it takes its name."""
    begin: Callable[[ClipStore | None], None] = lambda store: None
    """Called before the first frame, also where a store has them all."""
    subtitles: Subtitles | None = None
    alpha: bool = False
    """Frames are RGBA."""


def state_folder(out: Path) -> Path:
    """Name the folder of the state of a video that is written to `out`."""
    target = Path(os.path.realpath(out)) if out.is_symlink() else out
    name = f".{target.name}.part"
    if len(os.fsencode(name)) > _NAME_BYTES:
        name = f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:32]}.part"
    return target.with_name(name)


def write_resumable(
    film: Film,
    out: str | os.PathLike[str],
    facts: Mapping[str, str],
    *,
    resume: bool = True,
    overwrite: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write a video to `out`, from where an earlier call was stopped. Returns its path.

    facts: by name, a digest of everything that the frames depend on; a state of other facts is not used. resume: False
    begins anew. progress(done, total): also called once before the first new frame. tell: called with lines for the
    user. Where another process is writing the same video, this one is written without a state. An exception that stops
    it gets the attribute `resume_hint`, a phrase for the user. Raises as `write_video`.
    """
    out = check_output(out, overwrite)
    ffmpeg_binary()
    if film.total <= film.clip:
        return _write_at_once(film, out, overwrite, progress)
    folder = state_folder(out)
    with _locked(folder) as ours:
        if not ours:
            tell(f"{folder.name} is in use by another process: this video is not kept if it is stopped")
            return _write_at_once(film, out, overwrite, progress)
        clips = max(1, round(SEGMENT_FRAMES / film.clip))
        every = {**facts, "layout": f"{_LAYOUT}, segments of {clips} clips"}
        _clean(folder, every, resume, tell)
        first, store = _open(folder, clips, film)
        if place := _place(store, film):
            tell(f"goes on {place} (--no-resume begins anew)")
        try:
            suffix = segment_suffix(out.suffix.lower(), film.alpha)
            _encode(film, folder, store, first, clips, suffix, progress)
            count = finished_segments(folder)
            join_segments(
                folder,
                count,
                out,
                film.size,
                film.fps,
                film.sound,
                overwrite=overwrite,
                sound_seconds=film.sound_seconds,
                tags=film.tags(),
                finish=film.finish,
                subtitles=film.subtitles,
                alpha=film.alpha,
            )
        except ExistsError:  # the video is whole, under another name
            _remove(folder)
            raise
        except BaseException as error:
            if place := _place(_open(folder, clips, film)[1], film):
                error.resume_hint = f"the same command goes on {place}"  # type: ignore[attr-defined]
            raise
        _remove(folder)
    return out


def _write_at_once(film: Film, out: Path, overwrite: bool, progress: Callable[[int, int | None], None] | None) -> Path:
    """Write a video without keeping a state."""
    film.begin(None)
    return write_video(
        film.render(None),
        out,
        film.fps,
        film.sound,
        overwrite=overwrite,
        total=film.total,
        progress=progress,
        sound_seconds=film.sound_seconds,
        tags=film.tags(),
        finish=film.finish,
        subtitles=film.subtitles,
    )


def _encode(
    film: Film,
    folder: Path,
    store: ClipStore,
    first: int,
    clips: int,
    suffix: str,
    progress: Callable[[int, int | None], None] | None,
) -> None:
    """Make the segments from number `first` on, of `clips` clips each; suffix: the kind of their files."""
    film.begin(store)
    done = min(store.encoded * film.clip, film.total)
    last = -(-film.total // film.clip)
    if progress is not None:
        progress(done, film.total)
    if done == film.total:
        return

    def finished(count: int) -> None:
        store.drop(min(count * clips, last))

    frames = clips * film.clip
    with SegmentWriter(folder, film.size, film.fps, frames, first, finished, suffix, film.alpha) as writer:
        for frame in film.render(store):
            writer.add(frame)
            done += 1
            if progress is not None:
                progress(done, film.total)


def _open(folder: Path, clips: int, film: Film) -> tuple[int, ClipStore]:
    """Read how far the video in a folder is -> (finished segments of `clips` clips each, the clips)."""
    last, count = -(-film.total // film.clip), finished_segments(folder)
    store = ClipStore(folder, min(count * clips, last))
    if store.encoded in (0, last) or store.last is not None or store.whole() is not None:
        return count, store
    return 0, ClipStore(folder)  # the clip that the next one continues is missing or damaged


def _place(store: ClipStore, film: Film) -> str | None:
    """Say where a video goes on, for the user; None where it begins."""
    if sampled := min(store.done * film.clip, film.total):
        return f"from second {sampled / film.fps:.1f} of {film.total / film.fps:.1f}"
    if store.whole() is not None:
        return "with encoding, after the last denoising step"
    step = store.step()
    return None if step is None else f"after denoising step {step.taken}"


def _clean(folder: Path, facts: dict[str, str], resume: bool, tell: Callable[[str], None]) -> None:
    """Leave in the folder what belongs to a video of these facts, and note them. Raises OutputError."""
    before = _read_facts(folder / _JOB)
    usable = resume and before == facts
    if resume and before is not None and not usable:
        names = sorted(name for name in {*before, *facts} if before.get(name) != facts.get(name))
        tell(f"begins anew: what {folder.name} holds was made with another {', '.join(names)}")
    for left in folder.iterdir():
        if left.is_dir():  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        elif left.name != _LOCK and not usable:
            left.unlink(missing_ok=True)
    if not usable:
        with written_whole(folder / _JOB) as part:
            part.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_facts(path: Path) -> dict[str, str] | None:
    try:
        found = read_json(path)
    except (OSError, Unreadable):
        return None
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Make the folder and lock it; yields whether no other process has it. Nothing stays where nothing was kept.

    The lock is the operating system's and ends with the process; where there is none (Windows), nothing is locked.
    Raises OutputError.
    """
    try:
        folder.mkdir(exist_ok=True)
        file = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(
            f"{folder}: the state of the video cannot be written ({error.strerror or error}); check space and rights"
        ) from None
    ours = True
    try:
        with contextlib.suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                ours = False
            except OSError:
                pass  # a file system without locks
        yield ours
    finally:
        os.close(file)
        if ours and folder.is_dir() and not _holds_work(folder):
            _remove(folder)


def _holds_work(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or finished_segments(folder) > 0


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def facts_of(**values: Any) -> dict[str, str]:
    """Describe what a video depends on: digests of files and folders (`Path`), and other values as they are.

    The versions of this package and of torch are added. Raises OSError for a path that cannot be read again, such as a
    pipe.
    """
    found = {
        name.replace("_", " "): _digest(value) if isinstance(value, Path) else repr(value)
        for name, value in values.items()
    }
    return {**found, "version": program_version(), "torch": torch.__version__}


def _digest(path: Path) -> str:
    if (digest := digest_of(path, LARGE)) is None:
        raise OSError(f"{path} is no file")
    return digest
