"""A live session: sound comes in pieces of any size, and frames go out as soon as they are certain.

The frames are made by the clip loop of `runtime.render`, from speech features of a sound that grows (`speech.live`).
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from cyberhost_model.config import Preset
from cyberhost_model.errors import InputError
from cyberhost_model.media.audio import SPEECH_RATE, Resampler
from cyberhost_model.media.image import crop_back
from cyberhost_model.media.pcm import RATES
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.runtime.background import Helper, SharedWork
from cyberhost_model.runtime.render import Job, Renderer, Rendering
from cyberhost_model.speech.live import LiveSpeech

SHORTEST_CLIP = 4
"""Frames of a clip at least."""
_PIECE = 0.02  # seconds of sound that are resampled together
_EXPORTED = 3  # clips: without motion frames, with them, and with them again, which exports the steps
_VALID = 300.0  # seconds for which a pace that was measured counts: what else the machine does changes
_SHARE = 0.9  # of a clip's time, that making it may take


@dataclass(frozen=True)
class LowDelay:
    """Settings with which frames come soonest at 25 a second on two cores (docs/user/live.md)."""

    steps: int = 1
    clip: int = 6
    look_ahead: float = 0.12


LOW_DELAY = LowDelay()


class LiveSession:
    """A picture that speaks what is pushed: make one with `CyberHost.live`.

    ```
    session = host.live("portrait.jpg")
    for piece in microphone:                     # float (n,), any n
        session.push(piece, 48_000)
        for frame, seconds in session.frames():  # uint8 (H, W, 3) RGB; its time since the first sample
            show(frame, seconds)
    ```

    Frames follow each other without a seam, whatever was pushed: speech, silence, speech again. Silence has to be
    pushed too, for only then is it certain; the picture then breathes and blinks with lips at rest. All methods may be
    called from other threads while `frames` is iterated in one.
    """

    def __init__(self, renderer: Renderer, job: Job, speech: LiveSpeech, warnings: list[str]) -> None:
        self.job, self.speech, self.warnings = job, speech, warnings
        self.fps = job.config.fps
        self.size = job.reference.video_size
        """(W, H) of the frames."""
        self.steps = _steps(renderer, job)
        """Denoising steps of a clip."""
        self.shown = 0
        """Frames that were given out."""
        self._rate = Fraction(self.fps).limit_denominator(1001)
        self._heard = Fraction(0)  # seconds of sound
        self._total: int | None = None
        self._resampler: Resampler | None = None
        self._sound_rate = SPEECH_RATE
        self._work: SharedWork | None = None  # on the frames of the clip
        self._frame_lock = threading.Lock()  # held while a frame is computed
        self._sound_lock = threading.Lock()  # never for long, so that a microphone's thread can push
        self._motion_frames = renderer.model.network.preset.motion_frames
        self._rendering = Rendering(renderer, job, warnings.append)
        self._rendering.decoder = renderer.decoder(job, ahead=True)  # later there is no time for it
        self._helper = _helper(renderer)
        self._begin(None)

    @property
    def time(self) -> float:
        """Time of the next frame in seconds since the first sample."""
        return self.shown / self.fps

    @property
    def heard(self) -> float:
        """Seconds of sound that were pushed, but for what was interrupted."""
        return float(self._heard)

    @property
    def delay(self) -> float:
        """Seconds of sound that must follow the beginning of a clip before its first frame can be computed."""
        return self.speech.clip / self.fps + self.speech.look_ahead / SPEECH_RATE

    def push(self, samples: np.ndarray, rate: int) -> None:
        """Append sound: (n,) or (n, channels), floats in [-1, 1] or 16-bit integers, at `rate` Hz.

        The mean of the channels is heard. n may be 0, and the rate may change. Raises InputError.
        """
        if not RATES[0] <= rate <= RATES[1] or rate != int(rate):
            raise InputError(f"the rate of a sound must be a whole number within {RATES[0]}..{RATES[1]} Hz, not {rate}")
        block = as_block(samples)
        with self._sound_lock:
            if self._total is not None:
                raise InputError("the session is closed, and takes no more sound")
            if self._resampler is None or rate != self._sound_rate:
                self._end_resampler()
                self._resampler, self._sound_rate = Resampler(int(rate), SPEECH_RATE, _PIECE), int(rate)
            self._heard += Fraction(len(block), int(rate))
            for piece in self._resampler.push(block):
                self.speech.push(piece)

    def silence(self, seconds: float) -> None:
        """Append silence, as `push` does."""
        self.push(np.zeros(round(seconds * self._sound_rate), np.float32), self._sound_rate)

    def frames(self) -> Iterator[tuple[np.ndarray, float]]:
        """Yield the frames that are certain now, uint8 (H, W, 3) RGB, each with its time in seconds.

        It ends where more sound is needed, and is called again after the next `push`. After `close` it yields the rest.
        """
        while (shown := self._next_frame()) is not None:
            yield shown

    def interrupt(self) -> float:
        """Drop the sound of which no frame was given out, and the frames that were made of it; returns `time`.

        What is pushed next sounds from then on, and the movement goes on from the last frame that was given out. It
        waits for a frame that is being computed.
        """
        with self._frame_lock, self._sound_lock:
            self.speech.cut(self.shown)
            self._resampler, self._heard = None, Fraction(self.shown) / self._rate
            self._begin(self._motion())
            if self._total is not None:
                self._total = self.shown
                self.speech.close(self.shown)
        return self.time

    def close(self) -> None:
        """Say that no more sound comes: the last frames are certain then."""
        with self._sound_lock:
            if self._total is None:
                self._end_resampler()
                self._total = math.ceil(self._heard * self._rate)
                self.speech.close(self._total)

    def _begin(self, before: Tensor | None) -> None:
        """Begin the clip loop at the next frame, after the latents `before` (1, n, C, h, w)."""
        self._rendering.begin(self.shown, before)
        self._clips = self._rendering.latents()
        self._before, self._clip_start = before, self.shown
        self._clip: Tensor | None = None
        if self._work is not None:
            self._work.drop()

    def _end_resampler(self) -> None:
        if self._resampler is not None:
            for piece in self._resampler.end():
                self.speech.push(piece)
            self._resampler = None

    @torch.inference_mode()
    def _next_frame(self) -> tuple[np.ndarray, float] | None:
        with self._frame_lock:
            if self.shown == self._total:
                return None
            if self._clip is None or self.shown == self._clip_start + self._clip.shape[1]:
                if not self.speech.reaches(self.shown):
                    return None
                self._before, self._clip_start = self._motion(), self.shown
                self._clip = next(self._clips)
                self._work = SharedWork(self._frame_work(self._clip, self.shown), self._helper)
            assert self._work is not None
            at, middle = self.shown - self._clip_start, self._clip.shape[1] // 2
            if at == middle:  # frames are ahead by then, and the next clip's sound is still coming
                self._work.take(middle)
            frame = self._work.take(at + (at >= middle))[0]
            shown = crop_back(frame, self.job.reference.large_canvas), self.time
            self.shown += 1
            return shown

    def _frame_work(self, clip: Tensor, first: int) -> list[Callable[[], Any]]:
        """List what is to be done with the latents of a clip that begins at frame `first`.

        That is its frames, and in their middle the motion frames.
        """
        # One by one: several together are no quicker, and the first would wait for them.
        work: list[Callable[[], Any]] = [
            partial(self._rendering.decode, frame, first + i) for i, frame in enumerate(clip.split(1, 1))
        ]
        work.insert(len(work) // 2, partial(self._rendering.encode_motion, clip))
        return work

    def _motion(self) -> Tensor | None:
        """Take the latents (1, M, C, h, w) of the last frames that were given out, None before the first."""
        parts = [] if self._before is None else [self._before]
        if self._clip is not None:
            parts.append(self._clip[:, : self.shown - self._clip_start])
        if not parts or not self._motion_frames:
            return None
        last = torch.cat(parts, 1)[:, -self._motion_frames :]
        missing = self._motion_frames - last.shape[1]
        if not last.shape[1]:
            return None
        return torch.cat([last[:, :1].expand(-1, missing, -1, -1, -1), last], 1)


class Speaker:
    """A live session together with the sound that it hears: frames come out with the sound of their time.

    All methods may be called from other threads while `frames` is iterated in one.
    """

    def __init__(self, session: LiveSession, rate: int, channels: int = 1) -> None:
        self.session, self.rate = session, rate
        self._sound = np.zeros((0, channels), np.float32)
        self._given = 0  # samples that were given out with frames
        self._lock = threading.Lock()

    def push(self, block: np.ndarray) -> None:
        """Append sound, float32 (n, channels). Raises InputError."""
        with self._lock:
            self.session.push(block, self.rate)
            self._sound = np.concatenate([self._sound, block])

    def frames(self) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """Yield the frames that are certain now, uint8 (H, W, 3), each with its sound and its time in seconds.

        The sound is float32 (m, channels); silence fills the last frame of a closed session.
        """
        for frame, seconds in self.session.frames():
            with self._lock:
                count = self._samples_to(seconds + 1 / self.session.fps) - self._given
                part, self._sound = self._sound[:count], self._sound[count:]
                self._given += count
            yield frame, np.pad(part, ((0, count - len(part)), (0, 0))), seconds

    def interrupt(self) -> float:
        """Drop what was not given out, as `LiveSession.interrupt` does, and its sound; returns `session.time`."""
        with self._lock:
            seconds = self.session.interrupt()
            self._sound = self._sound[: max(0, self._samples_to(seconds) - self._given)]
            return seconds

    def _samples_to(self, seconds: float) -> int:
        return round(seconds * self.rate)


def speak(
    session: LiveSession, blocks: Iterable[np.ndarray], rate: int
) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """Push blocks of sound, float32 (n, channels), as they come, and yield what `Speaker.frames` does of them.

    The session is closed after the last block.
    """
    speaker: Speaker | None = None
    for block in blocks:
        speaker = speaker or Speaker(session, rate, block.shape[1])
        speaker.push(block)
        yield from speaker.frames()
    session.close()
    if speaker is not None:
        yield from speaker.frames()


def as_block(samples: np.ndarray) -> np.ndarray:
    """Convert sound of `LiveSession.push` to float32 (n, channels) in [-1, 1]; what is no number is silent.

    Raises InputError.
    """
    array = np.asarray(samples)
    if array.dtype == np.int16:
        array = array.astype(np.float32) / 32768
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] == 0 or not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"a sound must be (n,) or (n, channels) of floats in -1..1 or 16-bit integers, not {array.dtype} "
            f"{np.shape(samples)}"
        )
    return np.clip(np.nan_to_num(array.astype(np.float32), nan=0.0), -1.0, 1.0)


def rehearse(
    renderer: Renderer, job: Job, steps: Iterable[int], warn: Callable[[str], None], decoded: int | None = None
) -> Iterator[float]:
    """Make a silent clip in each of `steps`, one after the other, as a session does -> seconds that each takes.

    All but the first have motion frames. warn: called with lines for the user. decoded: frames of a clip that are
    decoded, None for all.
    """
    preset, fps = renderer.model.network.preset, job.config.fps
    clip = job.clip or preset.frames
    speech = LiveSpeech(renderer.model.speech, fps, clip, preset.audio.tokens)
    speech.push(np.zeros(speech.look_ahead, np.float32))
    job = replace(job, speech=speech.windows)
    rendering, helper = Rendering(renderer, job, warn), _helper(renderer)
    clips, first = rendering.latents(), 0
    for count in steps:
        speech.push(np.zeros(math.ceil(clip / fps * SPEECH_RATE), np.float32))
        rendering.job = replace(job, config=replace(job.config, steps=count))
        began = perf_counter()
        with torch.inference_mode():
            frames = next(clips)[:, :decoded].split(1, 1)
        work = SharedWork([partial(rendering.decode, z, first + i) for i, z in enumerate(frames)], helper)
        first += clip
        for index in range(len(frames)):
            work.take(index)
        yield perf_counter() - began


def _helper(renderer: Renderer) -> Helper | None:
    """Begin a second thread where frames are decoded by two; they do not depend on each other.

    A core for each is quicker than all cores for one, whose operations are small.
    """
    return Helper() if renderer.device.type == "cpu" and torch.get_num_threads() > 1 else None


def warm_up(renderer: Renderer, job: Job, warn: Callable[[str], None]) -> None:
    """Make the first two clips of a session once, because what is made first in a process takes longer."""
    deque(rehearse(renderer, job, [1, 1], warn, decoded=1), maxlen=0)


def export_steps(renderer: Renderer, job: Job, warn: Callable[[str], None]) -> None:
    """Have the steps of a session exported before it begins, where onnxruntime computes them."""
    if renderer.exported is not None:
        count = min(job.config.cache_blocks, 2)  # cached blocks have shapes too
        deque(rehearse(renderer, job, [count] * _EXPORTED, warn), maxlen=0)


@dataclass(frozen=True)
class Pace:
    """Seconds of a clip in one step and in all of them, and when that was measured."""

    one: float
    all_steps: float
    at: float


_paces: WeakKeyDictionary[CyberHostNetwork, dict[Hashable, Pace]] = WeakKeyDictionary()


def measure_pace(renderer: Renderer, job: Job, warn: Callable[[str], None]) -> Pace:
    """Measure how long a clip of `job` takes here, or tell what was measured for such a clip a short time ago.

    A clip in all steps that is made in time needs no other beside it: `one` is then as long.
    """
    most, network = _steps(renderer, job), renderer.model.network
    same = (
        *(renderer.device, renderer.dtype, renderer.graphs, renderer.exported is not None, torch.get_num_threads()),
        *(tuple(job.reference.large.shape), tuple(job.reference.latent.shape), job.clip, job.config.fps),
        *(most, job.config.cache_blocks, job.guidance),
    )
    paces = _paces.setdefault(network, {})
    if same in paces and perf_counter() - paces[same].at < _VALID:
        return paces[same]
    # The first clip loads what others find loaded; where steps are recorded, that is done in the second one.
    first = [1, min(2, most)] if renderer.graphs else [1]
    clips = rehearse(renderer, job, [*first, most, 1], warn)
    for _ in first:
        next(clips)
    all_steps = next(clips)
    one = all_steps if most == 1 or all_steps <= _time_of_clip(renderer, job) else next(clips)
    paces[same] = Pace(one, all_steps, perf_counter())
    return paces[same]


def in_time(renderer: Renderer, job: Job) -> tuple[Job, list[str]]:
    """Take as many steps as this machine can in the time that a clip lasts, at most the job's -> the job, warnings.

    A clip is made in all of them and in one, by the clock; what a step takes is a share of the difference.
    """
    most, left = _steps(renderer, job), _time_of_clip(renderer, job)
    told: list[str] = []
    pace = measure_pace(renderer, job, told.append)
    if pace.all_steps <= left:
        return job, told
    if pace.one > left:
        steps = 1
        rate = (job.clip or renderer.model.network.preset.frames) / pace.one
        told.append(f"this machine makes {rate:.1f} frames a second in one step: give a lower --fps or --size")
    else:
        steps = 1 + int((most - 1) * (left - pace.one) / (pace.all_steps - pace.one))
        told.append(f"{steps} of {most} steps, because this machine is too slow for more")
    return replace(job, config=replace(job.config, steps=steps)), told


def keeps_up(renderer: Renderer, job: Job) -> bool:
    """Return whether this machine makes a clip of `job` in one step in the time that it lasts."""
    return measure_pace(renderer, job, lambda line: None).one <= _time_of_clip(renderer, job)


def _time_of_clip(renderer: Renderer, job: Job) -> float:
    """Seconds that making a clip may take."""
    return _SHARE * (job.clip or renderer.model.network.preset.frames) / job.config.fps


def _steps(renderer: Renderer, job: Job) -> int:
    return job.config.steps or renderer.model.network.preset.sampling.steps


def check_live(preset: Preset) -> None:
    """Raise InputError for models that cannot go on from clip to clip of a sound that grows."""
    if preset.sampling.overlap or preset.portrait is not None or preset.task != "animate" or not preset.uses_audio:
        raise InputError(
            "this model cannot speak live: it hears or denoises a video as a whole; take one that continues clip after "
            "clip, such as 'tiny'"
        )
