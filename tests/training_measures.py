"""Measures of trained parts: key point detector and lip reader."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from cyberhost_model.lab.synthetic.stills import Still
from cyberhost_model.perception.face_controls import lips_gap
from cyberhost_model.perception.keypoint_detector import KeypointDetector
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints
from cyberhost_model.perception.lip_reader import LipReader, crop_mouth

HAND_THRESHOLD = 0.5  # a hand whose best point scores more counts as found


def evaluate_detector(detector: KeypointDetector, stills: list[Still], empty: list[np.ndarray]) -> dict[str, float]:
    """Measure the detector on labelled stills (one person each) and on pictures without people (`empty`).

    nme: mean distance of the 68 points over the distance of the eyes' centres; hand_pck: share of hand points within a
    fifth of the hand's size, of hands that were found; body_pck: share of shoulders, elbows and wrists within a quarter
    of the shoulder (or two face) width; NaN where nothing could be measured.
    """
    rates: dict[str, list[float]] = {
        name: [] for name in ("face_found", "nme", "hand_found", "hand_false", "hand_pck", "body_pck")
    }
    for still in stills:
        face = still.keypoints.face
        close = [
            person.keypoints
            for person in detector.detect(still.picture_u8)
            if np.linalg.norm((person.keypoints.face - face).mean(0)) < np.ptp(face[:, 0]) / 2
        ]
        rates["face_found"].append(bool(close))
        if close:
            for name, values in _rates_of(close[0], still).items():
                rates[name] += values
    alarms = [bool(detector.detect(picture)) for picture in empty]
    means = {name: _mean(values) for name, values in rates.items()}
    return {
        "stills": len(stills),
        "face_found": means["face_found"],
        "nme": means["nme"],
        "nme_worst": max(rates["nme"], default=float("nan")),
        "hand_found": means["hand_found"],
        "hand_false": means["hand_false"],
        "hand_pck": means["hand_pck"],
        "body_pck": means["body_pck"],
        "false_alarms": _mean(alarms),
        "nobody": len(empty),
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _rates_of(found: Keypoints, still: Still) -> dict[str, list[float]]:
    """Compare the key points found of one person with the labels of the still, see `evaluate`."""
    size, truth = np.array(still.size, np.float32), still.keypoints
    eyes = np.linalg.norm((truth.face[36:42].mean(0) - truth.face[42:48].mean(0)) * size)
    rates: dict[str, list[float]] = {"hand_found": [], "hand_false": [], "hand_pck": [], "body_pck": []}
    rates["nme"] = [float(np.linalg.norm((found.face - truth.face) * size, axis=1).mean() / eyes)]
    for i in (0, 1):
        detected = bool(found.hands_score[i].max() > HAND_THRESHOLD)
        if truth.hands_score[i].max() <= 0.5:
            rates["hand_false"].append(detected)
            continue
        rates["hand_found"].append(detected)
        if detected:
            length = np.ptp(truth.hands[i] * size, axis=0).max()
            distances = np.linalg.norm((found.hands[i] - truth.hands[i]) * size, axis=1)
            rates["hand_pck"].append(float((distances < 0.2 * length).mean()))
    unit = max(np.linalg.norm((truth.body[2] - truth.body[5]) * size), 2 * np.ptp(truth.face[:, 0] * size[0]))
    for j in (2, 3, 4, 5, 6, 7):
        if truth.body_score[j] > 0.5 and (np.abs(truth.body[j] - 0.5) < 0.5).all():
            near = np.linalg.norm((found.body[j] - truth.body[j]) * size) < 0.25 * unit
            rates["body_pck"].append(bool(near and found.body_score[j] > VISIBLE))
    return rates


def evaluate_lip_reader(reader: LipReader, faces: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Measure the lip reader on faces: correlation with the true gaps, and errors in face heights.

    faces: (picture, the detector's 68 points, the labelled 68 points) each, points in pixels. Errors of all mouths and
    of shut ones (gap below 0.01).
    """
    truth = np.array([lips_gap(labelled) for *_, labelled in faces])
    crops = np.stack([crop_mouth(picture, points) for picture, points, _ in faces])
    with torch.inference_mode():
        read = reader.eval()(torch.from_numpy(crops)).numpy().clip(0)
    off, shut = np.abs(read - truth), truth < 0.01
    return {
        "faces": len(faces),
        "correlation": float(np.corrcoef(read, truth)[0, 1]),
        "off": float(off.mean()),
        "off_shut": float(off[shut].mean()),
        "worst": float(off.max()),
    }
