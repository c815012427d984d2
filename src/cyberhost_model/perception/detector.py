"""What a key point detector is, and what the pipeline takes from a reference picture with any of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from cyberhost_model.config import LARGEST, LEFT, RIGHT
from cyberhost_model.errors import InputError, NoFaceError
from cyberhost_model.perception.face_controls import lips_gap
from cyberhost_model.perception.geometry import Box, face_height
from cyberhost_model.perception.hands import separate_hands
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints, bounding_box, clip_scores

# Face heights: lips whose gap is below the first number are taken to meet, from the second on the gap counts in full.
LIPS_MEET = (0.01, 0.02)


@dataclass
class Detection:
    """A person: key points in 0..1 of the picture, confidence of the face 0..1, box of the face points in pixels."""

    keypoints: Keypoints
    face_confidence: float
    box: Box


class Detector(Protocol):
    """Interface of key point detectors. `perception.registry` finds them by the kind a folder's config.json names.

    A detector that finds whole people in one pass, such as DWPose, derives from `WholeBodyDetector`.
    """

    @property
    def reads_lips(self) -> bool:
        """Whether its lip points follow an opening mouth closely enough to drive one."""

    @property
    def lips_from(self) -> float:
        """Height of a face in pixels from which its lip points tell the gap; infinity: they never do."""

    def detect(self, picture_u8: np.ndarray) -> list[Detection]:
        """Find everybody whose face is visible in uint8 (H, W, 3) RGB, the largest face first.

        The first one has body and hands, where they are visible. Scores are in 0..1.
        """

    def search(self, picture_u8: np.ndarray) -> list[Keypoints]:
        """Find everybody, the largest first; faces alone if bodies and hands would take longer."""

    def follow(self, picture_u8: np.ndarray, last: Keypoints) -> Detection | None:
        """Find the whole person whose face is about where `last` has it, without a search of the picture.

        None where no face is there, and always for a detector that cannot look at a part of the picture.
        """

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, with "kind", and the weights to `folder`."""


class WholeBodyDetector:
    """Base class of detectors that find whole people in one pass: everything follows from `people`."""

    reads_lips = False
    lips_from = 0.0

    @classmethod
    def save_pretrained(cls, folder: str | Path) -> None:
        """Write config.json alone: a model names this detector and does not hold its weights."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"class": cls.__name__, "version": 1}, indent=2) + "\n")

    def people(self, picture_u8: np.ndarray) -> list[Keypoints]:
        """Find everybody in uint8 (H, W, 3) RGB, the largest first. Scores may exceed 1."""
        raise NotImplementedError

    def detect(self, picture_u8: np.ndarray) -> list[Detection]:
        """See `Detector.detect`. A face is visible where half of its points are."""
        size, found = [picture_u8.shape[1], picture_u8.shape[0]], []
        for points in map(clip_scores, self.search(picture_u8)):
            box = bounding_box(points.face * size, points.face_score)
            if box is not None and np.median(points.face_score) > VISIBLE:
                found.append(Detection(points, float(points.face_score.mean()), box))
        return sorted(found, key=lambda d: -(d.box[2] - d.box[0]) * (d.box[3] - d.box[1]))

    def search(self, picture_u8: np.ndarray) -> list[Keypoints]:
        """See `Detector.search`. Of two hands in one place one is hidden."""
        size = picture_u8.shape[1], picture_u8.shape[0]
        return [separate_hands(found, size) for found in self.people(picture_u8)]

    def follow(self, picture_u8: np.ndarray, last: Keypoints) -> Detection | None:
        """Return None: the whole picture is searched for every frame."""
        return None


def measure_lip_gap(detector: Detector, keypoints: Keypoints, size: tuple[int, int]) -> float:
    """Measure the gap between the lips of a person that `detector` found, in heights of the face.

    size: (W, H) of the picture in pixels. 0 where the lips meet, and where the detector cannot tell (`lips_from`).
    """
    face = keypoints.face * np.array(size, np.float32)
    if face_height(face) < detector.lips_from:
        return 0.0
    gap = lips_gap(face)
    return gap * float(np.clip((gap - LIPS_MEET[0]) / (LIPS_MEET[1] - LIPS_MEET[0]), 0, 1))


@dataclass
class Analysis:
    """The person to animate in a reference picture, everybody found in it, and lines for the user."""

    keypoints: Keypoints
    people: list[Detection]
    warnings: list[str] = field(default_factory=list)


def analyse(
    picture_u8: np.ndarray, detector: Detector, name: str = "the picture", face: int | str = LARGEST
) -> Analysis:
    """Find the person to animate in a reference picture: the one with the largest face, or the one that `face` names.

    face: see `config.check_face`. `warnings` says so when there are several people and none was named. Raises
    NoFaceError when there is none, and InputError where there are fewer than `face`.
    """
    people = detector.detect(picture_u8)
    if not people:
        raise NoFaceError(
            f"no face found in {name}: use a picture where the face is upright, turned to the camera, not covered and "
            "at least a tenth of the picture's height"
        )
    if face == LARGEST:
        line = f"{len(people)} faces in {name}: the largest is animated (--face chooses another, left to right from 1)"
        return Analysis(people[0].keypoints, people, [line] if len(people) > 1 else [])
    place = place_from_left(face, len(people))
    if place is None:
        count = "only one face is" if len(people) == 1 else f"only {len(people)} faces are"
        raise InputError(f"{count} found in {name}, so there is no face {face}; give --face 1 to {len(people)}")
    chosen = sorted(people, key=lambda person: person.box[0] + person.box[2])[place]
    if chosen is not people[0]:  # body and hands were looked for at the largest face alone
        chosen = detector.follow(picture_u8, chosen.keypoints) or chosen
    return Analysis(chosen.keypoints, people)


def place_from_left(face: int | str, count: int) -> int | None:
    """Find the place from the left, from 0, of a face that is named by a number, "left" or "right", among `count`.

    None where there are fewer.
    """
    number = {LEFT: 1, RIGHT: count}.get(face, face) if isinstance(face, str) else face
    return number - 1 if isinstance(number, int) and number <= count else None
