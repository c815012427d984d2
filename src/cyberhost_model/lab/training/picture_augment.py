"""Pictures for the key point detector and the lip reader to learn from.

People cut out of stills, turned and scaled, in front of other backgrounds; pictures without people; and what cameras do
to a picture. Everything is drawn from the generator given.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cyberhost_model.lab.synthetic.framing import mirrored
from cyberhost_model.lab.synthetic.stills import Still
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

_FINEST = 512  # longer side of the finest level that is kept, pixels
_BACKGROUND = 192  # longer side of a background, pixels
DOUBTFUL = 0.1
"""Score of a point of which it is not said whether a picture shows it."""
_HARDLY = 0.06  # of a crop's side
_SKIN = 9.0  # of colours a and b in 8-bit Lab: how far skin is from the middle of the face, hands and shadows included
_WARM = np.array([1.0, 0.0, -1.0])  # direction in RGB of warmer light


@dataclass
class CutOut:
    """A still with its person's matte, at several sizes."""

    levels: list[np.ndarray]
    """RGBA uint8 (h, w, 4), finest first, each half the size of the one before; alpha is the person."""
    keypoints: Keypoints
    size: np.ndarray
    """(W, H) of the finest level."""

    @property
    def face(self) -> np.ndarray:
        """The 68 face points (68, 2) in pixels of the finest level."""
        return self.keypoints.face * self.size


def cut_outs(stills: list[Still]) -> list[CutOut]:
    """Cut out the people of stills and of their mirror pictures."""
    out = []
    for still in stills:
        for one in (still, mirrored(still)):
            w, h = one.size
            ratio = min(1.0, _FINEST / max(w, h))
            rgba = np.dstack([one.picture_u8, (one.mask * 255).astype(np.uint8)])
            if ratio < 1:
                rgba = cv2.resize(rgba, (round(w * ratio), round(h * ratio)), interpolation=cv2.INTER_AREA)
            levels = [rgba]
            while min(levels[-1].shape[:2]) > 48:
                levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
            out.append(CutOut(levels, one.keypoints, np.array([rgba.shape[1], rgba.shape[0]], np.float32)))
    return out


def inpaint_person(source: CutOut) -> np.ndarray:
    """Remove the person from a picture and inpaint the hole, uint8 (h, w, 3)."""
    rgba = source.levels[0]
    ratio = _BACKGROUND / max(rgba.shape[:2])
    small = cv2.resize(rgba, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
    hole = cv2.dilate((small[..., 3] > 25).astype(np.uint8), np.ones((9, 9)))
    return cv2.inpaint(np.ascontiguousarray(small[..., :3]), hole, 3, cv2.INPAINT_TELEA)


def similarity_transform(centre: np.ndarray, to: np.ndarray, scale: float, angle: float) -> np.ndarray:
    """Make the matrix (2, 3) that turns by `angle` and scales about `centre`, which it moves to `to`."""
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    m = np.array([[c, -s], [s, c]])
    return np.column_stack([m, np.asarray(to) - m @ np.asarray(centre)])


def warp_cut_out(source: CutOut, matrix: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, Keypoints]:
    """Warp a cut-out onto a square canvas.

    matrix: (2, 3), of pixels of the finest level. Returns RGB float32 (side, side, 3), alpha float32 (side, side, 1), 0
    outside the still, and the key points in 0..1 of the canvas. Points outside the still get a score of 0.
    """
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    level = int(np.clip(np.floor(np.log2(1 / max(scale, 1e-6)) + 0.35), 0, len(source.levels) - 1))
    image = source.levels[level]
    to_level = source.size / [image.shape[1], image.shape[0]]
    m = matrix[:, :2] * to_level
    warp = np.column_stack([m, matrix[:, 2] + m @ [0.5, 0.5] - 0.5])
    rgb = cv2.warpAffine(
        np.ascontiguousarray(image[..., :3]),
        warp,
        (side, side),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    alpha = cv2.warpAffine(np.ascontiguousarray(image[..., 3]), warp, (side, side), flags=cv2.INTER_LINEAR)
    size = source.size
    keypoints = source.keypoints.map(lambda p: ((p * size) @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32) / side)
    for points, score in (
        (source.keypoints.body, keypoints.body_score),
        (source.keypoints.hands, keypoints.hands_score),
    ):
        score[((points < 0) | (points > 1)).any(-1)] = 0
    return rgb.astype(np.float32), alpha.astype(np.float32)[..., None] / 255, keypoints


def random_texture(rng: np.random.Generator, side: int) -> np.ndarray:
    """Make a texture, float32 (side, side, 3): noise of several scales with shapes, lines of text or stripes."""
    out = np.zeros((side, side, 3), np.float32) + rng.uniform(0, 255, 3)
    for octave in (2, 5, 12, 40, side):
        if rng.random() < 0.6:
            scale, channels = rng.uniform(3, 40), 3 if rng.random() < 0.5 else 1
            noise = rng.normal(0, scale, (octave, octave, channels)).astype(np.float32)
            out = out + cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC).reshape(side, side, -1)
    kind = rng.random()
    if kind < 0.5:
        for _ in range(int(rng.integers(1, 14))):
            _draw_shape(rng, out)
    elif kind < 0.65:
        out = _with_text(rng, out)
    elif kind < 0.8:
        angle, period = rng.uniform(0, np.pi), rng.uniform(3, 40)
        columns, rows = np.meshgrid(np.arange(side), np.arange(side))
        wave = np.sin((columns * np.cos(angle) + rows * np.sin(angle)) * 2 * np.pi / period)
        out = out + np.sign(wave)[..., None] * rng.uniform(5, 60, 3)
    return out.astype(np.float32)


def _draw_shape(rng: np.random.Generator, canvas: np.ndarray) -> None:
    """Draw an ellipse, a polygon or a line into a square canvas."""
    side = len(canvas)
    colour, at = rng.uniform(0, 255, 3).tolist(), rng.integers(-20, side + 20, 2).tolist()
    radius = int(rng.uniform(2, side * 0.35))
    thickness = -1 if rng.random() < 0.6 else int(rng.integers(1, 6))
    shape = rng.integers(3)
    if shape == 0:
        axes, turn = (radius, int(radius * rng.uniform(0.4, 1))), float(rng.uniform(0, 180))
        cv2.ellipse(canvas, at, axes, turn, 0, 360, colour, thickness, cv2.LINE_AA)
    elif shape == 1:
        cv2.fillConvexPoly(canvas, (rng.normal(0, radius, (4, 2)) + at).astype(np.int32), colour, cv2.LINE_AA)
    else:
        cv2.line(canvas, at, rng.integers(0, side, 2).tolist(), colour, int(rng.integers(1, 12)), cv2.LINE_AA)


def _with_text(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Write lines of random characters over a square canvas, in one colour."""
    side = len(canvas)
    ink = np.zeros((side, side), np.uint8)
    for y in range(int(rng.integers(4, 20)), side, int(rng.integers(8, 26))):
        word = "".join(chr(c) for c in rng.integers(33, 122, 24))
        at = (int(rng.integers(-20, 20)), y)
        cv2.putText(ink, word, at, int(rng.integers(0, 8)), float(rng.uniform(0.25, 0.8)), 255, 1, cv2.LINE_AA)
    alpha = ink[..., None].astype(np.float32) / 255
    return canvas * (1 - alpha) + rng.uniform(0, 255, 3) * alpha


def random_background(rng: np.random.Generator, backgrounds: list[np.ndarray], side: int) -> np.ndarray:
    """Make a picture without people, float32 (side, side, 3): part of a still's background, or a texture."""
    if rng.random() < 0.4:
        return random_texture(rng, side)
    image = backgrounds[int(rng.integers(len(backgrounds)))]
    h, w = image.shape[:2]
    matrix = similarity_transform(
        rng.uniform(0.2, 0.8, 2) * [w, h],
        np.array([side / 2, side / 2]),
        side / min(w, h) * rng.uniform(0.8, 2.5),
        rng.normal(0, 0.15),
    )
    out = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101).astype(
        np.float32
    )
    return out[::-1].copy() if rng.random() < 0.1 else out


def skin_mask(picture: np.ndarray, keypoints: Keypoints) -> np.ndarray:
    """Estimate where skin is: what has the colour of the cheeks, float32 (h, w, 1) in 0..1; and the points of hands.

    picture: float32 (h, w, 3) in 0..255; keypoints in 0..1 of it.
    """
    side = np.array([picture.shape[1], picture.shape[0]])
    lab = cv2.cvtColor(np.clip(picture, 0, 255).astype(np.uint8), cv2.COLOR_RGB2LAB).astype(np.float32)
    cheeks = np.round(np.concatenate([keypoints.face[29:36], keypoints.face[2:15]]) * 0.6 * side)
    cheeks = np.round(cheeks + 0.4 * keypoints.face[30] * side).astype(int)
    x, y = np.clip(cheeks, 0, side - 1).T
    skin = np.median(lab[y, x], 0)
    off = np.linalg.norm(lab[..., 1:] - skin[1:], axis=-1) + 0.12 * np.maximum(np.abs(lab[..., 0] - skin[0]) - 50, 0)
    mask = np.exp(-((off / _SKIN) ** 2)).astype(np.float32)
    for points, score in zip(keypoints.hands, keypoints.hands_score, strict=True):
        if score.max() > VISIBLE:
            hull = cv2.convexHull(np.round(points * side).astype(np.int32))
            cv2.fillConvexPoly(mask, hull, 1.0)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(keypoints.face * side).astype(np.int32)), 1.0)
    return cv2.GaussianBlur(mask, (0, 0), max(0.6, side[0] / 200))[..., None]


def redress(rng: np.random.Generator, picture: np.ndarray, alpha: np.ndarray, keypoints: Keypoints) -> np.ndarray:
    """Give a person clothes of another colour and pattern, and skin of another tone; folds and shadows stay.

    picture: float32 (h, w, 3) in 0..255, alpha (h, w, 1) the person; hair counts as cloth. Returns a new picture.
    """
    skin = skin_mask(picture, keypoints)
    cloth = alpha * (1 - skin)
    inside = cloth[..., 0] > 0.5
    grey = picture.mean(-1, keepdims=True)
    out = picture
    if inside.sum() > 50:
        colour, gain = rng.uniform(5, 250, 3), float(np.exp(rng.normal(0.1, 0.4)))
        colour = colour.mean() + (colour - colour.mean()) * rng.uniform(0, 1)
        fold = (picture - np.median(picture[inside], 0)) * gain
        if rng.random() < 0.5:  # one cloth: its print goes, its shadows stay
            fold = np.broadcast_to((grey - float(np.median(grey[inside]))) * gain * rng.uniform(0.3, 1), picture.shape)
        new = colour + fold
        if rng.random() < 0.35:
            texture = random_texture(rng, len(picture))
            new = new + (texture - texture.mean((0, 1))) * rng.uniform(0.2, 0.8)
        out = out * (1 - cloth) + np.clip(new, 0, 255) * cloth
    if rng.random() < 0.6:
        tone = float(np.exp(rng.normal(-0.15, 0.35))) * np.exp(rng.normal(0, 0.05, 3) + rng.normal(0, 0.06) * _WARM)
        out = out * (1 - alpha * skin) + np.clip(picture * tone, 0, 255) * alpha * skin
    return out.astype(np.float32)


def blur_along(rng: np.random.Generator, picture: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """Blur what moves: along a random line, within about `radius` pixels of `centre`."""
    length = int(rng.uniform(0.2, 0.9) * radius) | 1
    if length < 3:
        return picture
    kernel, angle = np.zeros((length, length), np.float32), rng.uniform(0, np.pi)
    way = 0.5 * (length - 1) * np.array([np.cos(angle), np.sin(angle)])
    middle = (length - 1) / 2
    ends = [np.round(middle + s * way).astype(int).tolist() for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], (1.0,))
    moved = cv2.filter2D(picture, -1, kernel / kernel.sum())
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    off = np.hypot(x + 0.5 - centre[0], y + 0.5 - centre[1]) / max(radius, 1.0)
    near = np.clip(2.4 - 1.6 * off, 0, 1).astype(np.float32)[..., None]
    return (picture * (1 - near) + moved * near).astype(np.float32)


def crop_edges(rng: np.random.Generator, picture: np.ndarray, keypoints: Keypoints, keep: float) -> np.ndarray:
    """Let the picture end below or at a side, as frames of films do: its edge is repeated from there on.

    Points beyond it are no longer seen, in place; those hardly beyond it, whose limb still shows, are doubtful: their
    scores become `DOUBTFUL`. keep: what lies above that share of the height always stays.
    """
    side, out = len(picture), picture.copy()
    edges = [rng.uniform(max(keep, 0.4), 1), *rng.uniform(-0.35, 0.3, 2)]  # below, left, right
    below = int(edges[0] * side) if rng.random() < 0.6 else side
    left, right = (max(int(e * side), 0) if rng.random() < 0.4 else 0 for e in edges[1:])
    left, right = min(left, int(0.3 * side)), side - min(right, int(0.3 * side))
    out[below:] = out[below - 1]
    out[:, :left], out[:, right:] = out[:, left : left + 1], out[:, right - 1 : right]
    for points, score in ((keypoints.body, keypoints.body_score), (keypoints.hands, keypoints.hands_score)):
        p = points * side
        beyond = np.max([left - p[..., 0], p[..., 0] - right, p[..., 1] - below], 0) / side
        score[beyond >= 0] = np.minimum(score, np.where(beyond > _HARDLY, 0, DOUBTFUL))[beyond >= 0]
    return out


def scramble_face(rng: np.random.Generator, picture: np.ndarray, centre: np.ndarray, size: float) -> np.ndarray:
    """Permute the parts of a face of `size` pixels about `centre`: a negative sample that resembles a face."""
    x, y = np.round(centre - size / 2).astype(int)
    n = int(rng.integers(2, 5))
    cell = max(2, int(size / n))
    out = picture.copy()
    squares = [(y + i * cell, x + j * cell) for i in range(n) for j in range(n)]
    inside = [s for s in squares if min(s) >= 0 and max(s) + cell <= len(picture)]
    for a, b in zip(inside, rng.permutation(len(inside)), strict=True):
        part = picture[inside[b][0] : inside[b][0] + cell, inside[b][1] : inside[b][1] + cell]
        out[a[0] : a[0] + cell, a[1] : a[1] + cell] = part[::-1] if rng.random() < 0.5 else part
    return out


def degrade(rng: np.random.Generator, picture: np.ndarray, occlude: bool = True) -> np.ndarray:
    """Change a picture as another camera would: exposure, tint, saturation, blur, noise, JPEG, occluded patches.

    picture: square, float32 0..255; returns uint8. occlude: False leaves out the patches.
    """
    x = np.clip(picture, 0, 255) / 255
    side = len(x)
    if occlude and rng.random() < 0.3:
        for _ in range(int(rng.integers(1, 4))):
            (a, b), (u, v) = rng.integers(0, side, 2), rng.integers(side // 16, side // 3, 2)
            patch = x[a : a + u, b : b + v]
            patch[:] = rng.uniform(0, 1, 3) if rng.random() < 0.6 else rng.uniform(0, 1, patch.shape)
    x = x ** float(np.exp(rng.normal(0, 0.35)))
    grey = x.mean(-1, keepdims=True)
    saturation = 0.0 if rng.random() < 0.12 else float(np.exp(rng.normal(0, 0.3)))
    x = grey + (x - grey) * saturation
    x = (x - 0.5) * float(np.exp(rng.normal(-0.1, 0.25))) + 0.5 + rng.normal(0, 0.07)
    x = x * (1 + rng.normal(0, 0.07, 3))
    if rng.random() < 0.3:  # light from a side
        slope = np.add.outer(
            np.linspace(-1, 1, side) * rng.normal(0, 0.3), np.linspace(-1, 1, side) * rng.normal(0, 0.3)
        )
        x = x * (1 + slope[..., None])
    x = x.astype(np.float32)
    if rng.random() < 0.3:
        x = cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.3, side / 90)))
    if rng.random() < 0.35:
        x = x + rng.normal(0, rng.uniform(0.005, 0.06), x.shape)
    out = np.clip(x * 255, 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        out = cv2.imdecode(
            cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])[1], cv2.IMREAD_COLOR
        )
    return out


def centre_and_size(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Compute centre and longer side of the box around points (N, 2)."""
    low, high = points.min(0), points.max(0)
    return (low + high) / 2, float(max(high - low))
