"""Crops, masks, heat maps and the hand clarity score."""

import cv2
import numpy as np

from cyberhost_model.conditions.hand_clarity import SCALE, hand_clarity, laplacian_deviation
from cyberhost_model.perception.crops import (
    FACE_ENLARGE,
    HAND_ENLARGE,
    box_mask,
    cut_box,
    face_box,
    face_crop,
    hand_boxes,
    hand_crops,
    hand_heatmaps,
    region_masks,
)
from cyberhost_model.perception.keypoints import Keypoints


def boxed(face=None, left=None, right=None) -> Keypoints:
    """Key points that fill the given boxes (x0, y0, x1, y1)."""
    k, rng = Keypoints.empty(), np.random.default_rng(0)

    def fill(points, score, box):
        points[:] = rng.uniform(box[:2], box[2:], points.shape)
        points[0], points[1] = box[:2], box[2:]
        score[:] = 1

    if face:
        fill(k.face, k.face_score, face)
    for i, box in enumerate((left, right)):
        if box:
            fill(k.hands[i], k.hands_score[i], box)
    return k


def test_boxes_are_square_enlarged_and_about_the_points():
    k = boxed(face=(0.4, 0.2, 0.6, 0.3), left=(0.7, 0.7, 0.8, 0.9))
    # 200 x 400 pixels: the face is 40 x 40, the hand 20 x 80.
    assert np.allclose(
        face_box(k, (200, 400)),
        (100 - 20 * FACE_ENLARGE, 100 - 20 * FACE_ENLARGE, 100 + 20 * FACE_ENLARGE, 100 + 20 * FACE_ENLARGE),
    )
    left, right = hand_boxes(k, (200, 400))
    assert right is None
    assert np.allclose(
        left, (150 - 40 * HAND_ENLARGE, 320 - 40 * HAND_ENLARGE, 150 + 40 * HAND_ENLARGE, 320 + 40 * HAND_ENLARGE)
    )
    assert face_box(Keypoints.empty(), (9, 9)) is None


def test_crops_hold_the_points():
    picture = np.zeros((300, 200, 3), np.uint8)
    k = boxed(face=(0.3, 0.1, 0.6, 0.3), left=(0.6, 0.6, 0.9, 0.8))
    for points, colour in ((k.face, (255, 0, 0)), (k.hands[0], (0, 255, 0))):
        for x, y in points * [200, 300]:
            cv2.circle(picture, (int(x), int(y)), 2, colour, -1)
    face, hands = face_crop(picture, k), hand_crops(picture, k)
    assert face.shape == (3, 256, 256) and hands.shape == (2, 3, 128, 128) and face.dtype == hands.dtype == np.float32
    boxes = np.array(face_box(k, (200, 300))), np.array(hand_boxes(k, (200, 300))[0])
    for points, crop, box, channel in ((k.face, face, boxes[0], 0), (k.hands[0], hands[0], boxes[1], 1)):
        place = (points * [200, 300] - box[:2]) / (box[2:] - box[:2]) * crop.shape[1]
        assert (place > 0).all() and (place < crop.shape[1]).all()
        assert crop[channel][place[:, 1].astype(int), place[:, 0].astype(int)].min() > 0.5
        assert crop[2].max() == -1
    assert hands[1].max() == hands[1].min() == 0  # absent: zeros, not black
    assert np.abs(face_crop(picture, Keypoints.empty())).max() == 0


def test_cut_box_is_exact_and_repeats_the_edge():
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    assert np.array_equal(cut_box(picture, (10, 5, 30, 25), (20, 20)), picture[5:25, 10:30])
    out = cut_box(picture, (-10, 0, 30, 40), (40, 40))
    assert np.array_equal(out[:, :10], np.repeat(picture[:, :1], 10, 1)) and np.array_equal(
        out[:, 10:], picture[:, :30]
    )
    assert cut_box(picture, (200, 200, 220, 220), (8, 8)).shape == (8, 8, 3)


def test_masks_match_boxes():
    k = boxed(face=(0.4, 0.2, 0.6, 0.4), left=(0.6, 0.7, 0.8, 0.8), right=(0.1, 0.7, 0.2, 0.8))
    face, hands = region_masks(k, (32, 32))
    y, x = np.mgrid[:32, :32] + 0.5
    inside = lambda b: (x >= b[0]) & (x < b[2]) & (y >= b[1]) & (y < b[3])  # noqa: E731
    assert np.array_equal(face.astype(bool), inside(face_box(k, (32, 32))))
    left, right = hand_boxes(k, (32, 32))
    assert np.array_equal(hands.astype(bool), inside(left) | inside(right))
    assert (
        region_masks(Keypoints.empty(), (8, 4))[0].shape == (8, 4)
        and region_masks(Keypoints.empty(), (8, 4))[1].max() == 0
    )
    assert box_mask((1.1, 2.1, 1.2, 2.2), (4, 4)).nonzero() == (np.array([2]), np.array([1]))  # never lost
    assert box_mask((-9.0, -9.0, -8.0, -8.0), (4, 4)).sum() == 0


def test_heatmaps_peak_at_the_points():
    k = boxed(right=(0.2, 0.3, 0.6, 0.9))
    m = hand_heatmaps(k, (24, 16))
    assert m.shape == (42, 24, 16) and m[:21].max() == 0
    for points, heat in zip(k.hands[1], m[21:], strict=True):
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        assert abs(x + 0.5 - points[0] * 16) <= 0.5001 and abs(y + 0.5 - points[1] * 24) <= 0.5001 and heat.max() > 0.75


def test_clarity_falls_with_blur_and_is_zero_without_hands():
    rng = np.random.default_rng(0)
    frame = cv2.resize(rng.integers(0, 255, (40, 40, 3)).astype(np.uint8), (320, 320), interpolation=cv2.INTER_CUBIC)
    k = boxed(left=(0.1, 0.1, 0.4, 0.4), right=(0.5, 0.5, 0.9, 0.9))
    scores = [hand_clarity(frame if s == 0 else cv2.GaussianBlur(frame, (0, 0), s), k) for s in (0, 1.5, 3, 6)]
    assert scores == sorted(scores, reverse=True) and scores[-1] < 0.5 * scores[0]
    assert hand_clarity(frame, Keypoints.empty()) == 0.0
    assert hand_clarity(np.full((64, 64, 3), 90, np.uint8), k) == 0.0


def test_clarity_is_the_mean_of_the_laplacian_deviations():
    frame = np.random.default_rng(1).integers(0, 255, (256, 256, 3)).astype(np.uint8)
    k = boxed(left=(0.1, 0.1, 0.4, 0.4), right=(0.5, 0.5, 0.9, 0.9))
    crops = [cut_box(frame, b, (128, 128)) for b in hand_boxes(k, (256, 256))]
    grey = [c @ np.array([0.299, 0.587, 0.114]) for c in crops]
    kernel = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float64)
    for crop, g in zip(crops, grey, strict=True):
        assert np.isclose(laplacian_deviation(crop), cv2.filter2D(np.round(g), -1, kernel).std(), rtol=0.02)
    assert np.isclose(hand_clarity(frame, k), np.mean([laplacian_deviation(c) for c in crops]) / SCALE)
