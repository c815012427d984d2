"""Drawn people: procedural stills with exact labels (key points, matte), seeded.

The same person can be drawn again in another pose: `Appearance` has what stays fixed.
"""

from __future__ import annotations

import cv2
import numpy as np

from cyberhost_model.lab.synthetic.drawn_appearance import Appearance, sample_appearance
from cyberhost_model.lab.synthetic.drawn_body import BodyView, draw_forearm, draw_torso
from cyberhost_model.lab.synthetic.drawn_face import draw_face
from cyberhost_model.lab.synthetic.drawn_face_shape import FACE, HeadView, Plane, ears, landmarks
from cyberhost_model.lab.synthetic.drawn_hair import hair_box, hair_colour, hair_matte, has_back
from cyberhost_model.lab.synthetic.drawn_hands import draw_hand, hand_points
from cyberhost_model.lab.synthetic.drawn_paint import Canvas, Light, around, blur, fill, smoothstep
from cyberhost_model.lab.synthetic.drawn_pose import Pose, sample_pose
from cyberhost_model.lab.synthetic.drawn_scene import draw_background, film, sample_light
from cyberhost_model.lab.synthetic.stills import Still
from cyberhost_model.perception.keypoints import NECK, Keypoints

SUPER = 1.5  # canvas pixels a picture pixel


def _head_window(head: HeadView, box: tuple[float, float, float, float], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Find the canvas rows and columns that a box of the face's plane can reach."""
    u, v = np.meshgrid(np.linspace(box[0], box[2], 5), np.linspace(box[1], box[3], 5))
    p = head.forward(np.stack([u.ravel(), v.ravel()], 1).astype(np.float32))
    return around(p, shape, 3)


def _paint_hair(canvas: Canvas, head: HeadView, light: Light, back: bool) -> None:
    """Paint the hair behind the neck (`back`) or in front of it."""
    person = head.person
    rows, cols = _head_window(head, hair_box(person, back), canvas.rgb.shape)
    h, w = rows.stop - rows.start, cols.stop - cols.start
    if h < 2 or w < 2:
        return
    u, v = head.inverse(cols.start, rows.start, w, h)
    matte, strands, inside = hair_matte(person, u, v, back)
    rgb = hair_colour(person, u, v, strands, light, head.scale, inside)
    if back:
        rgb *= (1 - 0.45 * smoothstep(v, 0.1, 0.5) * smoothstep(np.abs(u), 0.34, 0.2))[..., None] * np.float32(0.9)
    else:
        canvas.darken(blur(matte, 0.02 * head.scale), cols.start, rows.start + int(0.02 * head.scale), 0.45)
    canvas.paint(rgb, matte, cols.start, rows.start)


def _paint_face(canvas: Canvas, head: HeadView, light: Light) -> None:
    """Draw the head without hair in the face's plane and warp it onto the canvas."""
    person, face = head.person, head.face
    grid = Plane(float(np.clip(head.scale * 1.15, 150, 420)))
    rgb, alpha, _ = draw_face(person, face, grid, light.turned(face.yaw, face.pitch))
    rows, cols = _head_window(head, FACE, canvas.rgb.shape)
    h, w = rows.stop - rows.start, cols.stop - cols.start
    if h < 2 or w < 2:
        return
    u, v = head.inverse(cols.start, rows.start, w, h)
    x, y = (u - FACE[0]) * grid.ppu, (v - FACE[1]) * grid.ppu
    rgb = cv2.remap(rgb, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.remap(alpha, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    canvas.paint(rgb, alpha, cols.start, rows.start)


def draw_person(
    person: Appearance, pose: Pose, light: Light, background: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Keypoints]:
    """Draw a person over a background (H, W, 3) float32 in 0..1.

    Returns the picture (H, W, 3) float32, the person's matte (H, W) in 0..1 and exact key points in 0..1.
    """
    height, width = background.shape[:2]
    big = (round(width * SUPER), round(height * SUPER))
    canvas = Canvas(cv2.resize(background, big, interpolation=cv2.INTER_LINEAR))
    scale = pose.scale * big[1]
    origin = np.array(pose.centre) * big - 0.5
    view = BodyView(person, pose, scale, origin)
    neck = view.px(np.array([(pose.head_shift[0], -0.94 + pose.head_shift[1])]))[0]
    sway = (
        np.array([np.sin(pose.face.roll), 1 - np.cos(pose.face.roll)]) * 0.5 * scale
    )  # the head rolls about the neck, not the eyes
    head = HeadView(person, pose.face, scale, float(neck[0] + sway[0]), float(neck[1] + sway[1]))
    points = [view.px3(hand_points(arm, s, person.masculine)) for arm, s in zip(pose.arms, (-1, 1), strict=True)]

    if has_back(person):
        _paint_hair(canvas, head, light, back=True)
    draw_torso(canvas, view, light)
    jaw = head.forward(landmarks(person, pose.face)[:17])
    chin = np.concatenate(
        [jaw + np.array([0, 0.06 * scale]), head.forward(np.array([(0.25, -0.2), (-0.25, -0.2)], np.float32))]
    )
    chin = chin + np.array([-0.05 * light.direction[0] * scale, 0.04 * scale])
    rows, cols = around(chin, canvas.alpha.shape, 0.15 * scale)
    if rows.stop > rows.start and cols.stop > cols.start:
        shadow = fill(chin - (cols.start, rows.start), (rows.stop - rows.start, cols.stop - cols.start))
        canvas.darken(blur(shadow, 0.05 * scale), cols.start, rows.start, 0.5)
    _paint_face(canvas, head, light)
    if person.hair_style != "bald" or person.age >= 0.3:
        _paint_hair(canvas, head, light, back=False)
    order = sorted(range(2), key=lambda i: points[i][:, 2].mean())
    mattes: list = [None, None]
    for i in order:
        draw_forearm(canvas, view, pose.arms[i], light)
        drawn = draw_hand(person, pose.arms[i], points[i], scale, light, canvas.rgb.shape)
        if drawn is None:
            continue
        rgb, matte, x0, y0 = drawn
        if pose.arms[i].wrist[2] > 0.2:
            canvas.darken(
                blur(matte, 0.05 * scale), x0 - int(0.05 * light.direction[0] * scale), y0 + int(0.06 * scale), 0.35
            )
        canvas.paint(rgb, matte, x0, y0)
        mattes[i] = drawn
    small = lambda x: cv2.resize(x, (width, height), interpolation=cv2.INTER_AREA)  # noqa: E731
    picture, mask = small(np.clip(canvas.rgb, 0, 1)), np.clip(small(canvas.alpha), 0, 1)
    return picture, mask, _labels(view, head, points, mattes, order, big)


def _labels(
    view: BodyView, head: HeadView, points: list, mattes: list, order: list, size: tuple[int, int]
) -> Keypoints:
    """Convert canvas pixels to key points in 0..1, with scores for what is in the picture."""
    person, pose = view.person, view.pose
    whole = np.array(size, np.float32)
    norm = lambda p: ((np.asarray(p, np.float32)[..., :2] + 0.5) / whole).astype(np.float32)  # noqa: E731
    inside = lambda p: ((p >= 0) & (p < 1)).all(-1).astype(np.float32)  # noqa: E731
    k = Keypoints.empty()
    plane = landmarks(person, pose.face)
    k.face = norm(head.forward(plane))
    k.face_score = inside(k.face)
    arms = [view.px3(np.stack([view.joints[i], arm.elbow, arm.wrist])) for i, arm in enumerate(pose.arms)]
    eyes = [plane[36:42].mean(0), plane[42:48].mean(0)]
    k.body[[2, 3, 4]], k.body[[5, 6, 7]] = norm(arms[0]), norm(arms[1])
    k.body[NECK] = (k.body[2] + k.body[5]) / 2
    k.body[[8, 11]] = norm(
        view.px(np.array([(-0.4 * person.shoulders / 0.7, 2.15), (0.4 * person.shoulders / 0.7, 2.15)]))
    )
    k.body[[14, 15, 16, 17]] = norm(head.forward(np.stack([*eyes, *ears(person)]).astype(np.float32)))
    k.body[0] = k.face[30]
    k.body_score = inside(k.body)
    k.body_score[[9, 10, 12, 13]] = 0
    if pose.face.yaw > 0.3:  # the far ear turns away
        k.body_score[17] = 0
    if pose.face.yaw < -0.3:
        k.body_score[16] = 0
    for i in range(2):
        k.hands[i] = norm(points[1 - i])  # left first
        k.hands_score[i] = inside(k.hands[i]) * _visible(mattes, order, 1 - i)
    return k


def _visible(mattes: list, order: list, i: int) -> float:
    """Return 0 for a hand that is off the picture or hidden under the other, else 1."""
    if mattes[i] is None:
        return 0.0
    _, m, x, y = mattes[i]
    if order[-1] == i or mattes[1 - i] is None or m.sum() < 1:
        return 1.0
    _, n, x2, y2 = mattes[1 - i]
    a, b, c, d = max(x, x2), max(y, y2), min(x + m.shape[1], x2 + n.shape[1]), min(y + m.shape[0], y2 + n.shape[0])
    if a >= c or b >= d:
        return 1.0
    over = float((m[b - y : d - y, a - x : c - x] * n[b - y2 : d - y2, a - x2 : c - x2]).sum())
    return float(over < 0.75 * float(m.sum()))


def drawn_still(seed: int, size: tuple[int, int] = (256, 256), wide: bool = False) -> Still:
    """Draw the person number `seed` as a still of `size` (W, H).

    Another number gives another person, pose, place and light; the same seed and size give the same bytes. Key points
    are exact, in 0..1; a score is 1 where the point is in the picture and 0 elsewhere, also for a hand hidden under the
    other. wide: arms as of people who sign, hands before chest and chin, at the head and beside the hips.
    """
    rng = np.random.default_rng([0xD7A3, seed])
    person = sample_appearance(rng)
    pose = sample_pose(rng, person.shoulders, size, wide)
    light = sample_light(rng)
    picture, mask, keypoints = draw_person(person, pose, light, draw_background(rng, *size))
    return Still(film(rng, picture), mask.astype(np.float32), keypoints, f"drawn-{seed}")
