"""KeypointDetector: faces, then 68 face points, 18 body points and 2 x 21 hand points of a person.

Top-down: `finder` searches the whole picture (and parts of it, when that shows nothing), the other three networks take
square crops.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from cyberhost_model.errors import ModelError
from cyberhost_model.hub.tensors import LARGEST_CONFIG, check_kinds, read_safetensors
from cyberhost_model.perception.crops import cut_box, rotated_crop, square_about
from cyberhost_model.perception.detector import Detection
from cyberhost_model.perception.geometry import Box, face_height, intersection_over_smaller
from cyberhost_model.perception.hands import (
    MIRRORED,
    ONE_PLACE,
    WRISTS,
    Arms,
    FoundHand,
    HandMaps,
    choose_hands,
    middle_and_size,
)
from cyberhost_model.perception.heat_net import HeatNet, concentration, find_peaks, fuse_batchnorm
from cyberhost_model.perception.keypoints import LIPS, NECK, VISIBLE, Keypoints
from cyberhost_model.perception.lip_reader import LipReader, crop_mouth, set_lip_gap
from cyberhost_model.reading import Unreadable, one_line, read_object

FINDER, FACE, BODY, HAND = 160, 128, 160, 96  # crop sides
# Sides of the crops over the size they follow (the longer side of the box about the 68 points, or about the 21), and
# how far below the face's centre the body crop's lies, in face sizes.
FACE_SPAN, BODY_SPAN, BODY_DOWN, HAND_SPAN = 1.6, 7.0, 2.0, 1.6
SIZE_UNIT = 0.2  # sizes are regressed as log(size / (SIZE_UNIT * crop side))
FINDER_MAPS, BODY_MAPS = 4, 22  # face, dx, dy, log size; 18 joints, left and right hand, their log sizes
LONGEST = 1536  # larger pictures are halved until they fit: nothing is found in more detail
THRESHOLD = 0.5
# How concentrated the maps of a face or hand are: at the first number the presence counts as 0, from the second on it
# stays. Faces of photographs measured 0.83 and more (0.70 under heavy blur), cups and clocks 0.73 and less; hands 0.75,
# what is none 0.51.
FACE_CONCENTRATION, HAND_CONCENTRATION = (0.68, 0.78), (0.4, 0.6)
LIPS_FROM = 24.0  # pixels of a face's height, chin to brows: lips of smaller faces are not read, and count as hidden


def certainty(logits: torch.Tensor, ramp: tuple[float, float]) -> torch.Tensor:
    """Map the concentration of the maps to 0..1 on a ramp from `ramp[0]` to `ramp[1]`: (N,)."""
    return ((concentration(logits) - ramp[0]) / (ramp[1] - ramp[0])).clamp(0, 1)


def _shrink(picture_u8: np.ndarray) -> np.ndarray:
    """The picture, its longer side at most LONGEST pixels."""
    height, width = picture_u8.shape[:2]
    if max(width, height) <= LONGEST:
        return picture_u8
    ratio = LONGEST / max(width, height)
    return cv2.resize(
        picture_u8, (max(1, round(width * ratio)), max(1, round(height * ratio))), interpolation=cv2.INTER_AREA
    )


class KeypointDetector(nn.Module):
    """Finds the people in a picture of any size.

    Deterministic; CPU is enough. `norm` False: see `HeatNet`. `lips`: without it the gap between the inner lips is not
    reliable.
    """

    def __init__(self, norm: bool = True, lips: LipReader | None = None) -> None:
        super().__init__()
        self.lips = lips
        self.finder = HeatNet(FINDER_MAPS, 8, norm=norm)
        self.face = HeatNet(68, 4, norm=norm)
        self.body = HeatNet(BODY_MAPS, 4, norm=norm)
        self.hand = HeatNet(21, 4, norm=norm)
        with torch.no_grad():  # heat maps start out empty
            self.finder.head[-1].bias[0] = -3.0
            self.body.head[-1].bias[:20] = -3.0
        self.to(memory_format=torch.channels_last)

    @property
    def reads_lips(self) -> bool:
        """Whether there is a lip reader.

        The gap that the face network's own points show has little to do with the true one; the lip reader's follows it
        (docs/results.md).
        """
        return self.lips is not None

    @property
    def lips_from(self) -> float:
        """Height of a face in pixels from which its lip points tell the gap; infinity without a lip reader."""
        return LIPS_FROM if self.lips is not None else float("inf")

    def search(self, picture_u8: np.ndarray) -> list[Keypoints]:
        """Find the faces in uint8 (H, W, 3) RGB, the largest first, without bodies and hands."""
        return [found.keypoints for found in self.detect(picture_u8, people=0)]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.face.presence.weight.device

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and fp16 `model.safetensors`, batch norms folded into the convolutions."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        half = {k: v.half().contiguous() for k, v in fuse_batchnorm(self.state_dict()).items()}
        save_file(half, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"class": "KeypointDetector", "version": 1}, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> KeypointDetector:
        """Load what `save_pretrained` wrote, as float32, ready to use.

        Raises ModelError when it is missing or of another layout.
        """
        folder = Path(folder)
        try:
            config = read_object(folder / "config.json", LARGEST_CONFIG)
            weights = read_safetensors(folder / "model.safetensors")
        except (OSError, Unreadable) as error:
            raise ModelError(
                f"no usable key point detector in {folder}: {one_line(error)}; install the package again"
            ) from error
        if config.get("class") != cls.__name__ or config.get("version") != 1:
            raise ModelError(f"{folder} does not hold a KeypointDetector of version 1")
        detector = cls(norm=False, lips=LipReader() if any(name.startswith("lips.") for name in weights) else None)
        try:
            detector.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
        except RuntimeError as error:
            raise ModelError(f"the key point detector in {folder} has another layout than this version's") from error
        check_kinds(folder / "model.safetensors", detector, weights)
        return detector.eval()

    @torch.inference_mode()
    def detect(self, picture_u8: np.ndarray, people: int = 1, threshold: float = THRESHOLD) -> list[Detection]:
        """Find everybody whose face is visible in `picture_u8` (H, W, 3), the largest face first.

        The first `people` get body and hands too. `threshold`: least confidence of a face.
        """
        if picture_u8.ndim != 3 or picture_u8.shape[2] != 3 or picture_u8.dtype != np.uint8:
            raise ValueError(f"a picture is uint8 (H, W, 3), not {picture_u8.dtype} {picture_u8.shape}")
        self.eval()
        full = np.array([picture_u8.shape[1], picture_u8.shape[0]], np.float32)
        picture_u8 = _shrink(picture_u8)
        found = []
        for i, (points, confidence) in enumerate(self._faces(picture_u8, threshold)):
            found.append(self._detection(picture_u8, points, confidence, full, whole=i < people))
        return found

    @torch.inference_mode()
    def follow(self, picture_u8: np.ndarray, last: Keypoints, threshold: float = THRESHOLD) -> Detection | None:
        """Find the person whose face is about where `last` has it, with body and hands, without a search.

        None where no face is there.
        """
        self.eval()
        full = np.array([picture_u8.shape[1], picture_u8.shape[0]], np.float32)
        picture_u8 = _shrink(picture_u8)
        face = last.face * [picture_u8.shape[1], picture_u8.shape[0]]
        low, high = face.min(0), face.max(0)
        points, presence = self.face_points(picture_u8, (low + high) / 2, float(max(high - low)))
        if presence < threshold:
            return None
        size = np.array([picture_u8.shape[1], picture_u8.shape[0]], np.float32)
        hands = [FoundHand(hand, last.hands[hand] * size, float(last.hands_score[hand].max())) for hand in (0, 1)]
        return self._detection(picture_u8, points, presence, full, True, [h for h in hands if h.score > VISIBLE])

    def _detection(
        self,
        picture_u8: np.ndarray,
        points: np.ndarray,
        confidence: float,
        full: np.ndarray,
        whole: bool,
        last_hands: Sequence[FoundHand] = (),
    ) -> Detection:
        """A person from the face points in pixels of the reduced picture; with body and hands where `whole`.

        `full`: (W, H) of the picture itself. last_hands: those that were seen just before.
        """
        keypoints = Keypoints.empty()
        keypoints.face, keypoints.face_score[:] = points, confidence
        if self.lips is not None:
            if whole and face_height(points) >= LIPS_FROM:
                keypoints.face = set_lip_gap(points, float(self.lips(self._tensor([crop_mouth(picture_u8, points)]))))
            else:
                keypoints.face_score[LIPS] = 0  # whoever takes this detector's lips for read must not take these
        if whole:
            self._body_and_hands(picture_u8, keypoints, last_hands)
        size = np.array([picture_u8.shape[1], picture_u8.shape[0]], np.float32)
        keypoints = keypoints.map(lambda p: (p / size).astype(np.float32))
        low, high = keypoints.face.min(0) * full, keypoints.face.max(0) * full
        return Detection(keypoints, confidence, (float(low[0]), float(low[1]), float(high[0]), float(high[1])))

    def _tensor(self, crops: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(crops)).to(self.device)

    @torch.inference_mode()
    def candidates(
        self, picture_u8: np.ndarray, views: list[tuple[np.ndarray, float]], least: float = 0.2
    ) -> list[tuple[float, np.ndarray, float]]:
        """Find the finder's peaks above `least` in square views (centre, side) of the picture.

        Returns (confidence, centre, size) of each in pixels.
        """
        crops = [cut_box(picture_u8, square_about(c, s), (FINDER, FINDER)) for c, s in views]
        maps, _ = self.finder(self._tensor(crops))
        heat = maps[:, :1].sigmoid()
        heat = heat * (heat == nn.functional.max_pool2d(heat, 3, 1, 1))
        cells, found = heat.shape[-1], []
        for n, (centre, side) in enumerate(views):
            value, index = heat[n, 0].flatten().topk(8)
            for v, i in zip(value.tolist(), index.tolist(), strict=True):
                if v > least:
                    dx, dy, log_size = maps[n, 1:, i // cells, i % cells].tolist()
                    place = (np.array([i % cells + 0.5 + dx, i // cells + 0.5 + dy]) / cells - 0.5) * side + centre
                    found.append((v, place, float(np.exp(np.clip(log_size, -3, 2))) * SIZE_UNIT * side))
        return found

    def _views(self, w: int, h: int) -> list[list[tuple[np.ndarray, float]]]:
        """Squares to search, in rounds: the whole picture; then overlapping parts, and a larger square.

        The larger square is for a face that fills the picture.
        """
        whole, middle, short = float(max(w, h)), np.array([w / 2, h / 2]), float(min(w, h))
        parts = [(middle, whole * 1.6)]
        side = max(whole * 0.55, short * 0.6)
        for y in np.linspace(side / 2, h - side / 2, 2) if h > side else [h / 2]:
            for x in np.linspace(side / 2, w - side / 2, 2) if w > side else [w / 2]:
                parts.append((np.array([x, y]), side))
        return [[(middle, whole * 1.08)], parts]

    def _faces(self, picture_u8: np.ndarray, threshold: float) -> list[tuple[np.ndarray, float]]:
        """(points (68, 2) in pixels, confidence) of each face, largest first."""
        kept: list[tuple[np.ndarray, float, Box]] = []
        for views in self._views(picture_u8.shape[1], picture_u8.shape[0]):
            for heat, centre, size in sorted(
                self.candidates(picture_u8, views, min(0.2, threshold)), key=lambda c: -c[0]
            ):
                if size < 6 or any(
                    intersection_over_smaller(square_about(centre, size), box) > 0.45 for *_, box in kept
                ):
                    continue
                points, presence = self.face_points(picture_u8, centre, size)
                box: Box = (*map(float, points.min(0)), *map(float, points.max(0)))  # type: ignore[assignment]
                confidence = float(np.sqrt(heat * presence))
                if confidence >= threshold and not any(
                    intersection_over_smaller(box, other) > 0.45 for *_, other in kept
                ):
                    kept.append((points, confidence, box))
            if kept:
                break
        kept.sort(key=lambda f: -(f[2][2] - f[2][0]) * (f[2][3] - f[2][1]))
        return [(points, confidence) for points, confidence, _ in kept]

    @torch.inference_mode()
    def face_points(self, picture_u8: np.ndarray, centre: np.ndarray, size: float) -> tuple[np.ndarray, float]:
        """Find the 68 points in pixels, and the presence 0..1, of a face of `size` about `centre`.

        The network runs twice, the second time on an upright crop.
        """
        angle, presence, points = 0.0, 0.0, np.zeros((68, 2), np.float32)
        for _ in range(2):
            crop, back = rotated_crop(picture_u8, centre, size * FACE_SPAN, angle, FACE)
            logits, logit = self.face(self._tensor([crop]))
            points = (find_peaks(logits)[0][0].cpu().numpy() @ back[:, :2].T + back[:, 2]).astype(np.float32)
            presence = float(logit.sigmoid())
            if presence < 0.1:
                return points, presence
            eyes = points[42:48].mean(0) - points[36:42].mean(0)
            angle = float(np.arctan2(eyes[1], eyes[0]))
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            upright = points @ turn
            low, high = upright.min(0), upright.max(0)
            centre, size = turn @ (low + high) / 2, float(max(high - low))
        return points, presence * float(certainty(logits, FACE_CONCENTRATION))

    def _body_and_hands(
        self, picture_u8: np.ndarray, keypoints: Keypoints, last_hands: Sequence[FoundHand] = ()
    ) -> None:
        """Fill in body and hands (in pixels) of the person whose face points are there."""
        low, high = keypoints.face.min(0), keypoints.face.max(0)
        size = float(max(high - low))
        centre = (low + high) / 2 + [0, BODY_DOWN * size]
        side = size * BODY_SPAN
        maps, _ = self.body(self._tensor([cut_box(picture_u8, square_about(centre, side), (BODY, BODY))]))
        places, values = find_peaks(maps[:, :20])
        places, scores = (places[0].cpu().numpy() - 0.5) * side + centre, values[0].sigmoid().cpu().numpy()
        keypoints.body, keypoints.body_score = places[:18].astype(np.float32), scores[:18].astype(np.float32)
        # What the face network sees closely is better: nose and eyes.
        for joint, points in ((0, keypoints.face[30:31]), (14, keypoints.face[36:42]), (15, keypoints.face[42:48])):
            keypoints.body[joint], keypoints.body_score[joint] = points.mean(0), keypoints.face_score[0]
        keypoints.body[NECK] = (keypoints.body[2] + keypoints.body[5]) / 2
        keypoints.body_score[NECK] = min(keypoints.body_score[2], keypoints.body_score[5])
        hand_maps = HandMaps(maps[0, 18:20].cpu(), maps[0, 20:].cpu(), centre, side, SIZE_UNIT * side)
        arms = Arms.of(keypoints, size)
        for hand, found in self._hands(picture_u8, hand_maps, arms, last_hands).items():
            if arms.is_astray(found):
                continue
            keypoints.hands[hand], keypoints.hands_score[hand] = found.points, found.score
            if arms.wrist_is_off(found):
                keypoints.body[WRISTS[hand]] = found.points[0]

    def _hands(
        self, picture_u8: np.ndarray, maps: HandMaps, arms: Arms, last: Sequence[FoundHand] = ()
    ) -> dict[int, FoundHand]:
        """Find both hands, never two in one place.

        First each is looked for at the highest peak of its map. One that is not there, or that lies on the other one,
        is looked for again: at the lower peaks of its map, at those of the other hand's, and where it was in the
        `last` frame.
        """
        peaks = [maps.peaks(hand) for hand in (0, 1)]
        first = [(hand, peaks[hand][0]) for hand in (0, 1) if peaks[hand]]
        looked = self.hand_points(picture_u8, [(hand, peak.centre, peak.size) for hand, peak in first])
        chosen = choose_hands(
            [
                FoundHand(hand, points, float(np.sqrt(presence * peak.heat * arms.fit_by_wrist(hand, points.mean(0)))))
                for (hand, peak), (points, presence) in zip(first, looked, strict=True)
            ],
            arms,
        )
        sure = [found for found in chosen.values() if found.score > VISIBLE]
        seeds = [
            (hand, peak.centre, peak.size)
            for hand in sorted({0, 1} - {found.hand for found in sure})
            for peak in (
                *peaks[hand][1:],
                *peaks[1 - hand][:MIRRORED],
                *(was.peak() for was in last if was.hand == hand),
            )
            if all(np.linalg.norm(peak.centre - other.centre) > ONE_PLACE * other.size for other in sure)
        ]
        if not seeds:
            return chosen
        # One pass tells which places are worth a second one.
        better = choose_hands(self._rate_hands(picture_u8, seeds, maps, arms, last), arms)
        seeds = [(hand, *middle_and_size(found.points)) for hand, found in sorted(better.items())]
        return choose_hands([*chosen.values(), *self._rate_hands(picture_u8, seeds, maps, arms, last)], arms)

    def _rate_hands(
        self,
        picture_u8: np.ndarray,
        seeds: list[tuple[int, np.ndarray, float]],
        maps: HandMaps,
        arms: Arms,
        last: Sequence[FoundHand],
    ) -> list[FoundHand]:
        """Find a hand at each of the seeds in one pass.

        Its score also says how well the place fits the map, or the `last` frame's hand, and the arm.
        """
        rated = []
        for (hand, *_), (points, presence) in zip(seeds, self.hand_points(picture_u8, seeds, passes=1), strict=True):
            found = FoundHand(hand, points, 0.0)
            place = found.centre
            kept = max((was.keeps(found) for was in last if was.hand == hand), default=0.0)
            found.score = float(np.sqrt(presence * max(maps.heat_at(hand, place), kept) * arms.fit(hand, place)))
            rated.append(found)
        return rated

    @torch.inference_mode()
    def hand_points(
        self, picture_u8: np.ndarray, hands: list[tuple[int, np.ndarray, float]], passes: int = 2
    ) -> list[tuple[np.ndarray, float]]:
        """Find 21 points in pixels and the presence 0..1 of each of `hands`, each pass on the crop that the last found.

        hands: (0 left or 1 right, centre, size). The network was trained on left hands: right ones are mirrored.
        """
        found: list[tuple[np.ndarray, float]] = []
        for _ in range(passes if hands else 0):
            crops = [
                cut_box(picture_u8, square_about(c, s * HAND_SPAN), (HAND, HAND))[:, :: -1 if i else 1]
                for i, c, s in hands
            ]
            logits, presence = self.hand(self._tensor(crops))
            places, found, again = find_peaks(logits)[0].cpu().numpy(), [], []
            there = (presence.sigmoid() * certainty(logits, HAND_CONCENTRATION)).tolist()
            for (i, centre, size), unit, p in zip(hands, places, there, strict=True):
                unit = unit * [-1, 1] + [1, 0] if i else unit
                points = ((unit - 0.5) * size * HAND_SPAN + centre).astype(np.float32)
                found.append((points, p))
                again.append((i, *middle_and_size(points)))
            hands = again
        return found
