"""The stage that trains the key point detector, and its measurements."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from cyberhost_model.lab.synthetic.stills import Still
from cyberhost_model.lab.training.stages.detector_samples import BatchSizes, DetectorSamples
from cyberhost_model.perception.keypoint_detector import HAND_THRESHOLD, KeypointDetector
from cyberhost_model.perception.keypoints import VISIBLE

_SIGMA = 1.3  # of the point targets, in cells


def focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """CornerNet's penalty-reduced focal loss of Gaussian heat maps, a positive."""
    positive = target > 0.995
    p = logits.sigmoid()
    hit = -(F.logsigmoid(logits) * (1 - p) ** 2)[positive].sum()
    miss = -(F.logsigmoid(-logits) * p**2 * (1 - target) ** 4)[~positive].sum()
    return (hit + miss) / positive.sum().clamp_min(1)


def binary(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross entropy of Gaussian heat maps, cells near a point weighing more, summed a map: calibrated scores, exact
    places.
    """
    return (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * (1 + 9 * target)).sum((2, 3)).mean()


def point_loss(logits: torch.Tensor, points: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Cross entropy of each map's softmax with a Gaussian about its point (0..1), a present crop; points outside the
    crop do not count.
    """
    cells = logits.shape[-1]
    at = torch.arange(cells, device=logits.device) + 0.5
    p = points * cells
    across, down = (torch.exp(-((at - p[..., i : i + 1]) ** 2) / (2 * _SIGMA**2)) for i in (0, 1))
    target = (down[..., :, None] * across[..., None, :]).flatten(2)
    target = target / target.sum(2, keepdim=True).clamp_min(1e-6)
    cross = -(target * logits.flatten(2).log_softmax(2)).sum(2)
    entropy = -(target * target.clamp_min(1e-9).log()).sum(2)  # what cannot be beaten: the loss goes to 0
    weight = present[:, None] * ((points > 0) & (points < 1)).all(2)
    return ((cross - entropy) * weight).sum() / weight.sum().clamp_min(1)


class DetectorStage:
    """Trains finder, face, body and hand network side by side, one batch of each a step."""

    name = "detector"

    def __init__(self, stills: list[Still], drawn: list[Still], sizes: BatchSizes | None = None):
        self.stills, self.drawn, self.sizes = stills, drawn, sizes or BatchSizes()
        self.module: nn.Module = KeypointDetector()

    def dataset(self, seed: int) -> Dataset:
        """See `DetectorSamples`."""
        return DetectorSamples(self.stills, self.drawn, seed, self.sizes)

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """The sum of all parts' losses, and each part's."""
        net = self.module
        net.train()
        maps, _ = net.finder(batch["finder_crops"])
        finder = focal(maps[:, 0], batch["finder_heat"])
        weight = batch["finder_weight"][:, None]
        box = (
            F.smooth_l1_loss(maps[:, 1:], batch["finder_regress"], reduction="none", beta=0.2) * weight
        ).sum() / weight.sum().clamp_min(1)
        logits, presence = net.face(batch["face_crops"])
        face = point_loss(logits, batch["face_points"], batch["face_present"])
        face_there = F.binary_cross_entropy_with_logits(presence, batch["face_present"])
        maps, _ = net.body(batch["body_crops"])
        body = binary(maps[:, :20], batch["body_heat"])
        hands = batch["body_seen"][:, 18:]
        cell = (batch["body_places"][:, 18:] * maps.shape[-1]).long().clamp(0, maps.shape[-1] - 1)
        sizes = maps[:, 20:].flatten(2).gather(2, (cell[..., 1] * maps.shape[-1] + cell[..., 0])[..., None])[..., 0]
        hand_size = (
            F.smooth_l1_loss(sizes, batch["body_sizes"], reduction="none", beta=0.2) * hands
        ).sum() / hands.sum().clamp_min(1)
        logits, presence = net.hand(batch["hand_crops"])
        hand = point_loss(logits, batch["hand_points"], batch["hand_present"])
        hand_there = F.binary_cross_entropy_with_logits(presence, batch["hand_present"])
        total = finder + box + face + face_there + 0.1 * body + hand_size + hand + hand_there
        return {
            "loss": total,
            "finder": finder,
            "box": box,
            "face": face,
            "face_there": face_there,
            "body": body,
            "hand_size": hand_size,
            "hand": hand,
            "hand_there": hand_there,
        }


def evaluate(detector: KeypointDetector, stills: list[Still], nobody: list[np.ndarray]) -> dict[str, float]:
    """Rates on labelled stills (one person each) and on pictures of nobody.

    nme: mean distance of the 68 points over the distance of the eyes' centres; pck: share of hand points within a fifth
    of the hand's size, of hands that were found; body_pck: shoulders, elbows and wrists within a quarter of the
    shoulder (or two face) width.
    """
    found, nme, hand_found, hand_false, pck, body = [], [], [], [], [], []
    for still in stills:
        size, truth = np.array(still.size, np.float32), still.keypoints
        people = detector.detect(still.picture_u8)
        right = [
            p for p in people if np.linalg.norm((p.keypoints.face - truth.face).mean(0)) < np.ptp(truth.face[:, 0]) / 2
        ]
        found.append(bool(right))
        if not right:
            continue
        seen = right[0].keypoints
        eyes = np.linalg.norm((truth.face[36:42].mean(0) - truth.face[42:48].mean(0)) * size)
        nme.append(float(np.linalg.norm((seen.face - truth.face) * size, axis=1).mean() / eyes))
        for i in (0, 1):
            there = seen.hands_score[i].max() > HAND_THRESHOLD
            if truth.hands_score[i].max() > 0.5:
                hand_found.append(there)
                if there:
                    length = np.ptp(truth.hands[i] * size, axis=0).max()
                    pck.append(
                        float((np.linalg.norm((seen.hands[i] - truth.hands[i]) * size, axis=1) < 0.2 * length).mean())
                    )
            else:
                hand_false.append(there)
        unit = max(np.linalg.norm((truth.body[2] - truth.body[5]) * size), 2 * np.ptp(truth.face[:, 0] * size[0]))
        for j in (2, 3, 4, 5, 6, 7):
            if truth.body_score[j] > 0.5 and (np.abs(truth.body[j] - 0.5) < 0.5).all():
                body.append(
                    bool(
                        np.linalg.norm((seen.body[j] - truth.body[j]) * size) < 0.25 * unit
                        and seen.body_score[j] > VISIBLE
                    )
                )
    alarms = [bool(detector.detect(p)) for p in nobody]
    mean = lambda v: float(np.mean(v)) if v else float("nan")  # noqa: E731
    return {
        "stills": len(stills),
        "face_found": mean(found),
        "nme": mean(nme),
        "nme_worst": max(nme, default=float("nan")),
        "hand_found": mean(hand_found),
        "hand_false": mean(hand_false),
        "hand_pck": mean(pck),
        "body_pck": mean(body),
        "false_alarms": mean(alarms),
        "nobody": len(nobody),
    }
