"""Dubbing: the lips of a filmed person follow another sound, and the rest of the film stays its own pixels.

The network hears the sound with one frame of the film as its reference picture, and says how far the lips part and how
wide the mouth is. Each frame of the film is compared with that, and the codec moves its lips by the difference, in a
square around the mouth (`codecs.close_up`) that fades into the film. So head, eyes, hands, light and camera stay the
film's.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch

from cyberhost_model.codecs.close_up import MOUTH
from cyberhost_model.codecs.reference import ReferenceCodec
from cyberhost_model.config import FRAME_RATES, LARGEST
from cyberhost_model.driving.sequence import PoseSequence
from cyberhost_model.driving.smooth import clean_shots, find_runs
from cyberhost_model.driving.video import PersonFollower, lines_where
from cyberhost_model.errors import InputError
from cyberhost_model.media.video_reader import probe_video, stream_frames
from cyberhost_model.perception.detector import Detector, measure_lip_gap
from cyberhost_model.perception.face_controls import mouth_width
from cyberhost_model.perception.geometry import face_height
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.perception.mouth_cover import MouthView, StoredViews, covered_mouths
from cyberhost_model.perception.people import has_face
from cyberhost_model.perception.shots import CUT, ShotFinder, thumbnail_of
from cyberhost_model.runtime.clip_store import ClipStore
from cyberhost_model.runtime.loading import Model
from cyberhost_model.runtime.prepare import Reference, face_close_up, head_crop, prepare_reference, to_input, to_pixels
from cyberhost_model.runtime.render import Job, Renderer, Rendering
from cyberhost_model.sampler.postprocess import control_heights

LONGEST = 4096
"""Pixels of a film's longer side; a larger one is reduced."""
_SMALLEST = 24.0  # pixels from the chin to the brows: the mouth of a smaller face is a few pixels wide
_FADE = 0.2  # seconds in which the lips come from the film's own, and go back, where a face appears and disappears
_USUAL = 2.0  # seconds over which the median of the mouth's width is what is usual
_STEADY = 0.03  # seconds, deviation of a Gaussian: the detector's tremble is taken out of the film's own lips
_BACKWARDS = 64 << 20  # bytes of frames that are kept while a film goes backwards


@dataclass(frozen=True)
class Film:
    """A film that is dubbed, read as often as it is needed: upright frames at its own rate and size."""

    path: Path
    fps: Fraction

    @staticmethod
    def open(path: Path) -> Film:
        """Read what the file says of itself. Raises InputError."""
        low, high = FRAME_RATES
        return Film(path, min(max(probe_video(path).fps, Fraction(low)), Fraction(high)))

    def frames(self) -> Iterator[np.ndarray]:
        """Read the frames, uint8 (H, W, 3) with even sides. Raises InputError."""
        for frame in stream_frames(self.path, float(self.fps), LONGEST):
            yield frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]

    def there_and_back(self, count: int) -> Iterator[tuple[int, np.ndarray]]:
        """Read the frames forwards, backwards and so on without end, each with its place among the `count` it has."""
        while True:
            yield from enumerate(itertools.islice(self.frames(), count))
            yield from self._backwards(count - 2)

    def _backwards(self, last: int) -> Iterator[tuple[int, np.ndarray]]:
        """Read the frames from `last` down to 1: a part at a time, each of them by decoding the film up to it."""
        while last > 0:
            kept: deque[np.ndarray] = deque()
            for frame in itertools.islice(self.frames(), last + 1):
                kept.append(frame)
                if len(kept) > max(1, _BACKWARDS // frame.nbytes):
                    kept.popleft()
            while kept and last > 0:
                yield last, kept.pop()
                last -= 1


@dataclass(frozen=True)
class FaceTrack:
    """The face of one person through a film of T frames."""

    sequence: PoseSequence
    """Key points of every frame, cleaned."""
    seen: np.ndarray
    """(T,) bool: the face is seen and large enough to be dubbed."""
    gap: np.ndarray
    """(T,) how far the film's own lips are apart, in face heights."""
    width: np.ndarray
    """(T,) how much wider than usual the film's own mouth is, in face heights."""
    picture: np.ndarray
    """The frame that shows the face best, uint8 (H, W, 3): the network's reference."""
    keypoints: Keypoints
    """Those of `picture`, in 0..1 of it."""
    covered: np.ndarray
    """(T,) bool: something is before the mouth."""

    def __len__(self) -> int:
        return len(self.seen)

    @property
    def shares(self) -> np.ndarray:
        """(T,) in 0..1 how far the lips follow the new sound; 0 where they are not seen."""
        free = self.seen & ~self.covered
        share, ramp = free.astype(float), max(1, round(_FADE * self.sequence.fps))
        for start, stop in find_runs(free):
            inside = np.arange(start, stop)
            since = inside - start + 1 if start > 0 else np.full(len(inside), ramp)
            until = stop - inside if stop < len(share) else np.full(len(inside), ramp)
            share[start:stop] = np.minimum(np.minimum(since, until) / ramp, 1)
        return share


def track_face(
    film: Film,
    detector: Detector,
    face: int | str = LARGEST,
    progress: Callable[[int, int | None], None] | None = None,
) -> FaceTrack:
    """Follow the face that `face` names (`config.check_face`) through a film.

    progress: called as `progress(frames done, None)`. Raises InputError for what is no film, and where no face is seen
    that is large enough.
    """
    follower, finder, fps = PersonFollower(detector, face), ShotFinder(), float(film.fps)
    best, picture, size, views = -np.inf, None, (1, 1), StoredViews()
    for i, frame in enumerate(film.frames()):
        size = frame.shape[1], frame.shape[0]
        follower.take(frame, finder.add(i / fps, thumbnail_of(frame)) > CUT)
        found = follower.found[-1]
        views.append(MouthView.of(frame, found.face * np.array(size, np.float32)) if _is_seen(found, size) else None)
        if found is not None and (quality := _shows_face(detector, found, size)) > best:
            best, picture, keypoints = quality, frame, found
        if progress is not None:
            progress(i + 1, None)
    if picture is None:
        raise InputError(
            f"{film.path}: no face is seen in it that is large enough; give a film of a person whose mouth is at least "
            "ten pixels wide"
        )
    sequence = PoseSequence.of([k or Keypoints.empty() for k in follower.found], fps, size)
    cuts = finder.cuts(fps)
    sequence = clean_shots(sequence, cuts)
    shots = itertools.pairwise([0, *cuts, len(views)])
    covered = np.concatenate([covered_mouths(views[start:stop], fps) for start, stop in shots])
    people, pixels = list(sequence), np.array(size, np.float32)
    seen = np.array([_is_seen(k, size) for k in people])
    own = [
        (measure_lip_gap(detector, k, size), mouth_width(k.face * pixels)) if s else (0.0, np.nan)
        for k, s in zip(people, seen, strict=True)
    ]
    gap, width = np.array(own).T
    return FaceTrack(sequence, seen, _steady(gap, fps), _beyond_usual(width, fps), picture, keypoints, covered)


def _is_seen(person: Keypoints | None, size: tuple[int, int]) -> TypeGuard[Keypoints]:
    """Check whether the face is seen and large enough to be dubbed."""
    return (
        person is not None and has_face(person) and face_height(person.face * np.array(size, np.float32)) >= _SMALLEST
    )


def _shows_face(detector: Detector, person: Keypoints, size: tuple[int, int]) -> float:
    """Rate a frame as the network's reference: a large face whose lips are shut, and that is not turned away."""
    if not _is_seen(person, size):
        return -np.inf
    face = person.face * np.array(size, np.float32)
    height = face_height(face)
    turned = abs(float(face[30, 0] - face[[0, 16], 0].mean())) / height
    return float(np.log(height)) - 10 * measure_lip_gap(detector, person, size) - 2 * turned


def _steady(values: np.ndarray, fps: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    return np.asarray(gaussian_filter1d(values, _STEADY * fps, mode="nearest"))


def _beyond_usual(width: np.ndarray, fps: float) -> np.ndarray:
    """Subtract the median of the frames around from widths (T,); 0 where they are NaN."""
    from scipy.ndimage import median_filter

    known = np.isfinite(width)
    filled = np.interp(np.arange(len(width)), np.flatnonzero(known), width[known])
    usual = median_filter(filled, round(_USUAL * fps) | 1, mode="nearest")
    return np.where(known, _steady(filled - usual, fps), 0.0)


@dataclass(frozen=True)
class Dubbing:
    """One film whose lips follow a sound."""

    renderer: Renderer
    film: Film
    track: FaceTrack
    job: Job

    def frames(self, warn: Callable[[str], None], store: ClipStore | None = None) -> Iterator[np.ndarray]:
        """Make the frames, uint8 (H, W, 3), as many as the job has.

        warn: called with lines for the user. store: keeps finished clips; frames that it says are encoded are left out.
        """
        track, shares, size = self.track, self.track.shares, self.track.sequence.size
        first = 0 if store is None else store.encoded * self.renderer.model.network.preset.frames
        shown = itertools.islice(self.film.there_and_back(len(track)), first, self.job.total)
        for (i, frame), (gap, width) in zip(shown, self.lips(warn, store), strict=False):
            if frame.shape[1::-1] != size:
                raise InputError(f"{self.film.path}: its pictures change their size; save it again with one size")
            if shares[i] > 0:
                change = shares[i] * np.array([gap - track.gap[i], width - track.width[i]])
                frame = self.move_lips(frame, track.sequence.frame(i), change)
            yield frame

    def lips(self, warn: Callable[[str], None], store: ClipStore | None) -> Iterator[tuple[float, float]]:
        """Let the network say for each frame the gap of the lips, and how much wider than usual the mouth is.

        Both are in face heights.
        """
        codec, reference = self.renderer.model.codec, self.job.reference
        assert isinstance(codec, ReferenceCodec)
        maps = reference.control_maps[:, None].float()
        for z in Rendering(self.renderer, self.job, warn, store=store).latents():
            changes = control_heights(z.float(), maps)[0] * codec.control_deviations
            for gap, width in changes[:, MOUTH.controls].cpu().tolist():
                yield max(reference.lip_gap + gap, 0.0), width

    @torch.inference_mode()
    def move_lips(self, frame: np.ndarray, person: Keypoints, change: np.ndarray) -> np.ndarray:
        """Open the lips of a frame by change[0] and widen the mouth by change[1], in face heights.

        frame: uint8 (H, W, 3); person: the key points in 0..1 of it. Outside the close-up's square its pixels stay.
        """
        codec, size = self.renderer.model.codec, np.array(frame.shape[1::-1])
        assert isinstance(codec, ReferenceCodec)
        corner, side = MOUTH.square(person.face * size.astype(np.float32))
        low = np.clip(np.floor(corner) - 1, 0, size - 1).astype(int)
        high = np.clip(np.ceil(corner + side) + 1, low + 1, size).astype(int)
        part = frame[low[1] : high[1], low[0] : high[0]]
        placed = person.map(lambda points: ((points * size - low) / (high - low)).astype(np.float32))
        picture = to_input(part, self.renderer.model.network, torch.float32)
        close_up = face_close_up(picture, MOUTH, placed, codec.config.downscale)
        out = frame.copy()
        out[low[1] : high[1], low[0] : high[0]] = to_pixels(codec.move_close_up(close_up, picture, change.tolist()))[0]
        return out


def best_view(model: Model, track: FaceTrack) -> Reference:
    """Prepare the head of the frame that shows the face best as the network's reference picture."""
    return prepare_reference(model, *head_crop(track.picture, track.keypoints), size=None, head=True, alone=True)


def unseen(track: FaceTrack) -> list[str]:
    """Make lines for the user about where the face is not seen, and where something is before the mouth."""
    fps = track.sequence.fps
    return [
        *lines_where((~track.seen).tolist(), "the face is not seen", "the film stays as it is there", fps),
        *lines_where(
            (track.covered & track.seen).tolist(), "something is before the mouth", "the film stays as it is there", fps
        ),
    ]
