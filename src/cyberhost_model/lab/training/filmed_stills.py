"""Frames of filmed people as labelled stills, for the detector and the lip reader: what their labels are sure of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.filmed.labels import unpack_points
from cyberhost_model.lab.filmed.manifest import accepted_rows
from cyberhost_model.lab.synthetic.stills import Still, person_mask
from cyberhost_model.lab.training.filmed_clips import FilmedClip, read_filmed
from cyberhost_model.perception.hands import separate_hands
from cyberhost_model.perception.keypoints import Keypoints

SURE = 0.6
"""Score from which a face or a hand is a label: a detector's doubtful finds would teach its own errors."""


def filmed_stills(folders: Sequence[str], frames: int, lips: bool = False) -> list[Still]:
    """Take up to `frames` frames of every clip of datasets (`data prepare`) that training may see, as stills.

    Their faces are sure (`SURE`); hands that are not, and one of two in one place, have a score of 0. lips: only frames
    whose lips a detector read. Raises InputError, and TrainingError for a dataset without such frames.
    """
    found: list[Still] = []
    for folder in folders:
        before = len(found)
        for row in accepted_rows(folder):
            clip = read_filmed(Path(folder), row)
            sure = list(_sure_frames(clip, lips))
            for i in np.unique(np.linspace(0, len(sure) - 1, frames).round().astype(int)) if sure else []:
                picture, points = clip.pictures[sure[i]], sure_hands(clip, sure[i])
                found.append(Still(picture, person_mask(picture, points), points, str(row.identity)))
        if len(found) == before:
            what = "lips are read" if lips else "a face is sure"
            raise TrainingError(
                f"{folder}: has no frame in which {what}; leave it out, or label it by another detector"
            )
    return found


def _sure_frames(clip: FilmedClip, lips: bool) -> Iterator[int]:
    """List the frames whose faces are sure."""
    for i, score in enumerate(clip.labels["face_score"]):
        if score.mean() > SURE and not (lips and np.isnan(clip.labels["opening"][i])):
            yield i


def sure_hands(clip: FilmedClip, frame: int) -> Keypoints:
    """Return the key points of a frame without hands that are not sure."""
    height, width = clip.pictures.shape[1:3]
    points = separate_hands(unpack_points(clip.labels, frame), (width, height))
    score = points.hands_score * (points.hands_score.max(1, keepdims=True) > SURE)
    return replace(points, hands_score=score)
