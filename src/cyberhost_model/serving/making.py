"""Making the video of a job with the server's model, so that a job that was stopped goes on where it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cyberhost_model.config import GenerationConfig
from cyberhost_model.marks.marking import Marks
from cyberhost_model.media.output_form import OutputForm
from cyberhost_model.runtime.named_job import OWN, NamedJob
from cyberhost_model.runtime.pipeline import CyberHost
from cyberhost_model.serving.store import VideoJob
from cyberhost_model.serving.turns import Turns

PICTURE, SOUND = "image_reference", "audio_reference"
BACKGROUND, SUBTITLES = "background_reference", "subtitles"
"""Fields of the form that hold files."""
Tick = Callable[[int, int | None], None]
"""Called as tick(frames done, frames) while a video is made; an exception in it stops the video."""
_SETTINGS = {entry.name for entry in fields(GenerationConfig)}


@dataclass(frozen=True)
class Made:
    """A finished video."""

    frames: int
    fps: float
    size: tuple[int, int]
    """(W, H)."""
    duration: float
    """Seconds."""
    warnings: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        return {"frames": self.frames, "fps": self.fps, "size": list(self.size), "duration": self.duration}


Maker = Callable[[VideoJob, Path, Tick], Made]
"""Makes the video of a job in the job's folder."""


@dataclass(frozen=True)
class HostMaker:
    """Makes videos with one loaded model, as `cyberhost animate` and `multimodal` do."""

    host: CyberHost
    marks: Marks
    turns: Turns = field(default_factory=Turns)

    def __call__(self, job: VideoJob, folder: Path, tick: Tick) -> Made:
        """Make the video of a job. Raises what `CyberHost.animate` and `Animation.save` do, and what `tick` does."""

        def tick_and_give_way(done: int, total: int | None) -> None:
            tick(done, total)
            self.turns.give_way(lambda: tick(done, total))

        with self.turns.model:
            tick_and_give_way(0, None)
            return self._make(job, folder, tick_and_give_way)

    def _make(self, job: VideoJob, folder: Path, tick: Tick) -> Made:
        inputs: dict[str, Any] = {"picture": folder / job.inputs[PICTURE], "audio": folder / job.inputs[SOUND]}
        gesture = job.options.get("gesture")
        command = "animate" if gesture is None else "multimodal"
        hands = {} if gesture is None else {"hands": gesture}
        named = NamedJob(command, {**inputs, **hands}, keywords(job.options, command))
        animation = named.begin(self.host)
        animation.on_step = lambda step, steps: tick(0, animation.n_frames)
        facts = named.facts(self.host)
        form = form_of(job, folder)
        animation.save(folder / job.video, overwrite=True, progress=tick, marks=self.marks, form=form, facts=facts)
        duration = animation.n_frames / animation.fps
        return Made(animation.n_frames, animation.fps, animation.size, duration, tuple(animation.warnings))


def form_of(job: VideoJob, folder: Path) -> OutputForm:
    """Read the form of a job's video; its files lie in the job's folder."""
    files = {name: folder / job.inputs[name] for name in (BACKGROUND, SUBTITLES) if name in job.inputs}
    background = str(files[BACKGROUND]) if BACKGROUND in files else job.options.get("background")
    return OutputForm(files.get(SUBTITLES), background, job.options.get("alpha", False))


def keywords(options: dict[str, Any], command: str) -> dict[str, Any]:
    """Choose the keywords of a method of `CyberHost` among the options of a job, as they come out of JSON."""
    chosen = {name: value for name, value in options.items() if name in _SETTINGS or name in OWN[command]}
    if chosen.get("guidance_interval") is not None:
        chosen["guidance_interval"] = tuple(chosen["guidance_interval"])
    return chosen
