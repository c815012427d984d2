"""Lists of videos to make: a file of JSON lines, a CSV file, or a folder of pictures and sounds with the same names."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cyberhost_model.config import GenerationConfig, parse_interval
from cyberhost_model.errors import InputError
from cyberhost_model.media.output_form import OutputForm
from cyberhost_model.media.picture_formats import PICTURE_SUFFIXES
from cyberhost_model.runtime.named_job import OWN

COMMANDS = ("animate", "reenact", "multimodal")
SOUNDS = (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".mp4", ".mov", ".mkv", ".webm")
_FILES = ("picture", "audio", "driving", "hands")
_SETTINGS = {entry.name for entry in fields(GenerationConfig)}


@dataclass(frozen=True)
class BatchJob:
    """One video of a list. It is checked when it is made, so that a wrong one does not stop the others."""

    place: str
    """Where it stands, for messages: "line 3", "row 3" or the name of the picture."""
    output: Path
    command: str = "animate"
    inputs: dict[str, Any] = field(default_factory=dict)
    """picture, and audio, driving or hands: paths or words."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Keywords of the method."""
    form: OutputForm = field(default_factory=OutputForm)
    problem: str | None = None
    """Why it cannot be made, where the list says something that cannot be meant."""


def read_jobs(source: Path, folder: Path | None = None) -> list[BatchJob]:
    """Read a list of jobs: a folder, or a file that ends in .jsonl or .csv.

    folder: where videos are written whose place is not said, and what relative outputs are relative to; None: the
    folder of the list. Inputs are relative to the list's folder. Raises InputError where the list as a whole cannot be
    read, or names no job.
    """
    if not source.exists():
        raise InputError(f"{source}: no such list of jobs; give a .jsonl or .csv file, or a folder")
    if source.is_dir():
        jobs = list(_of_folder(source, folder or source))
        if not jobs:
            raise InputError(f"{source}: holds no picture and sound of the same name, such as anna.jpg and anna.wav")
        return _without_twins(jobs)
    if source.suffix.lower() not in (".jsonl", ".csv"):
        raise InputError(f"{source}: the name of a list of jobs must end in .jsonl or .csv")
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InputError(f"{source}: the list of jobs cannot be read ({reason})") from None
    entries = _json_lines(text) if source.suffix.lower() == ".jsonl" else _csv_rows(source, text)
    jobs = [_job(place, entry, source.parent, folder or source.parent) for place, entry in entries]
    if not jobs:
        raise InputError(f"{source}: names no job")
    return _without_twins(jobs)


def watch_folder(source: Path, folder: Path | None = None, every: float = 2.0) -> Iterator[BatchJob | None]:
    """Yield the pairs of a folder as they come, for ever, and None after each `every` seconds without one.

    A pair is taken once its files have not changed from one look to the next, and again when they change later. Raises
    InputError where `source` is no folder that can be read.
    """
    if not source.is_dir():
        raise InputError(f"{source}: is no folder, and only a folder can be watched")
    taken: dict[Path, tuple[_State, ...]] = {}
    before: dict[Path, _State] = {}
    while True:
        try:
            jobs = list(_of_folder(source, folder or source))
        except OSError as error:
            raise InputError(f"{source}: cannot be watched any more ({error.strerror})") from None
        now = {path: _state(path) for job in jobs for path in job.inputs.values()}
        for job in jobs:
            states = tuple(now[path] for path in job.inputs.values())
            settled = all(now[path] is not None and now[path] == before.get(path) for path in job.inputs.values())
            if settled and taken.get(job.output) != states:
                taken[job.output] = states
                yield job
        before = now
        time.sleep(every)
        yield None


_State = tuple[int, int] | None


def _state(path: Path) -> _State:
    """Read size and time of a file; None where it is gone or still empty."""
    try:
        about = path.stat()
    except OSError:
        return None
    return (about.st_size, about.st_mtime_ns) if about.st_size else None


def _json_lines(text: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Yield each line's place and object, or what is wrong with it."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            entry = f"is no JSON ({error})" if isinstance(error, ValueError) else "is no JSON (nested too deep)"
        yield f"line {number}", entry if isinstance(entry, (dict, str)) else "must be an object in braces"


def _csv_rows(source: Path, text: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Yield each row's place and values; numbers, true and false are read as such."""
    try:
        rows = list(csv.DictReader(text.splitlines(), skipinitialspace=True))
    except csv.Error as error:
        raise InputError(f"{source}: the list of jobs cannot be read ({error})") from None
    for number, row in enumerate(rows, 2):  # the first row names the columns
        if None in row:
            yield f"row {number}", "has more values than there are columns"
        else:
            yield f"row {number}", {name.strip(): _value(text) for name, text in row.items() if text}


def _value(text: str) -> Any:
    try:
        value = json.loads(text.strip())
    except (ValueError, RecursionError):
        return text.strip()
    return value if isinstance(value, (int, float)) else text.strip()


def _of_folder(source: Path, out: Path) -> Iterator[BatchJob]:
    """Pair the pictures of a folder with the sounds of the same stem, in the order of their names."""
    files = sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
    made = {path.resolve() for path in files if path.parent.resolve() == out.resolve() and path.suffix == ".mp4"}
    sounds: dict[str, Path] = {}
    for path in files:
        if path.suffix.lower() in SOUNDS and path.resolve() not in made:
            sounds.setdefault(path.stem, path)
    for path in files:
        if path.suffix.lower() in PICTURE_SUFFIXES and path.stem in sounds:
            inputs = {"picture": path, "audio": sounds[path.stem]}
            yield BatchJob(path.name, out / f"{path.stem}.mp4", "animate", inputs)


def _job(place: str, entry: dict[str, Any] | str, beside: Path, out: Path) -> BatchJob:
    """Read one entry of a list; what is wrong with it becomes its `problem`."""
    nowhere = BatchJob(place, Path())
    if isinstance(entry, str):
        return BatchJob(place, Path(), problem=f"{place} {entry}")
    entry = dict(entry)
    command = entry.pop("command", "animate")
    if command not in COMMANDS:
        return _wrong(nowhere, f"command must be one of {', '.join(COMMANDS)}, not {command!r}")
    inputs: dict[str, Any] = {}
    for name in _FILES:
        value = entry.pop(name, None)
        if value is None:
            continue
        if not isinstance(value, str) or not value or "\0" in value:
            return _wrong(nowhere, f"{name} must be the name of a file, not {value!r}")
        path = beside / value
        word = (name == "audio" and value in ("keep", "none")) or (name == "hands" and not path.exists())
        inputs[name] = value if word else path
    needed = {"animate": ("picture", "audio"), "reenact": ("picture", "driving"), "multimodal": ("picture", "audio")}
    if missing := [name for name in needed[command] if name not in inputs]:
        return _wrong(nowhere, f"names no {missing[0]}")
    allowed = {*needed[command], *({"reenact": ("audio",), "multimodal": ("hands",)}.get(command, ()))}
    if other := sorted(set(inputs) - allowed):
        return _wrong(nowhere, f"{command} takes no {other[0]}")
    try:
        form = _form(entry, beside)
    except InputError as error:
        return _wrong(nowhere, str(error))
    output = entry.pop("output", None)
    if output is not None and (not isinstance(output, str) or not output or "\0" in output):
        return _wrong(nowhere, f"output must be the name of a file, not {output!r}")
    stem = Path(inputs["driving" if command == "reenact" else "audio"]).stem
    target = out / (output if output else f"{Path(inputs['picture']).stem}-{stem}.mp4")
    settings = {name.replace("-", "_"): value for name, value in entry.items()}
    job = BatchJob(place, target, command, inputs, settings, form)
    if unknown := sorted(set(job.settings) - _SETTINGS - set(OWN[command])):
        return _wrong(job, f"{command} has no option {unknown[0]!r}")
    try:
        if isinstance(interval := job.settings.get("guidance_interval"), str):
            job.settings["guidance_interval"] = parse_interval(interval)
        elif isinstance(interval, list):
            job.settings["guidance_interval"] = tuple(interval)
        GenerationConfig(**{name: value for name, value in job.settings.items() if name in _SETTINGS})
    except (InputError, TypeError, ValueError) as error:
        return _wrong(job, str(error))
    amount = job.settings.get("body_movement", 0.0)
    if not isinstance(amount, (int, float)) or not 0 <= amount <= 1:
        return _wrong(job, f"body_movement must be between 0 and 1, not {amount!r}")
    for name in ("retarget", "gestures", "loop"):
        if not isinstance(job.settings.get(name, True), bool):
            return _wrong(job, f"{name} must be true or false, not {job.settings[name]!r}")
    return job


def _form(entry: dict[str, Any], beside: Path) -> OutputForm:
    """Take the video's form out of an entry; files are relative to the list's folder. Raises InputError."""
    subtitles, background, alpha = (entry.pop(name, None) for name in ("subtitles", "background", "alpha"))
    for name, value in (("subtitles", subtitles), ("background", background)):
        if value is not None and (not isinstance(value, str) or not value or "\0" in value):
            raise InputError(f"{name} must be a text, not {value!r}")
    if alpha not in (None, False, True):
        raise InputError(f"alpha must be true or false, not {alpha!r}")
    form = OutputForm(subtitles and beside / subtitles, background, bool(alpha))
    return replace(form, background=str(beside / background)) if "background" in form.files else form


def _wrong(job: BatchJob, problem: str) -> BatchJob:
    return replace(job, problem=f"{job.place}: {problem}")


def _without_twins(jobs: list[BatchJob]) -> list[BatchJob]:
    """Mark jobs that would write what one before them writes."""
    first: dict[Path, str] = {}
    found = []
    for job in jobs:
        if job.problem is None and (before := first.setdefault(job.output.absolute(), job.place)) != job.place:
            job = _wrong(job, f"writes {job.output}, as {before} does; give it another output")
        found.append(job)
    return found
