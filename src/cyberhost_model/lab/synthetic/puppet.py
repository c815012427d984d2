"""A photo puppet: one labelled still, moved by warping along its key points.

The labels of every frame, optical flow included, are exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

from cyberhost_model.lab.synthetic.puppet_face import PuppetFace
from cyberhost_model.lab.synthetic.stills import Still
from cyberhost_model.media.inpaint import fill_smoothly
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

_ARMS = {0: (5, 6, 7), 1: (2, 3, 4)}  # shoulder, elbow, wrist of the left and the right arm (OpenPose)
# Of a hand that reaches out: the share of its way that the elbow goes, and of the forearm's turn that the hand makes.
_ELBOW_SHARE, _HAND_TURN = 0.25, 0.6
_TOUCHING = 0.6  # palms between the nearest points of two hands that rest on each other


@dataclass
class Pose:
    """The pose of one frame; `Pose()` is the still itself, except for its mouth.

    Angles in radians, shifts in face heights.
    """

    opening: float = 0.0  # 0 closed .. 1 wide open
    width: float = 0.0  # -1 rounded .. 1 spread
    blink: float = 0.0  # 0 open .. 1 shut
    brow: float = 0.0  # -1 down .. 1 up
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)  # of the head against the torso
    sway: tuple[float, float] = (0.0, 0.0)  # of the torso
    arms: tuple[tuple[float, float, float], tuple[float, float, float]] = (
        (0.0, 0.0, 0.0),
        (0.0, 0.0, 0.0),
    )  # left, right: shoulder, elbow, wrist
    closure: float = 0.0  # 1: lips touch, even where the still shows them open
    reach: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))
    # left, right: how far hands reach in the picture's plane, beyond what `arms` does; limbs turn and stretch


@dataclass
class Rendered:
    """A frame with its labels."""

    picture_u8: np.ndarray
    """(H, W, 3)."""
    flow: np.ndarray
    """float32 (H, W, 2), pixels: position in the still minus position in the frame."""
    seen: np.ndarray
    """float32 (H, W): 1 where the still shows the pixel."""
    keypoints: Keypoints


@dataclass
class _Bone:
    start: np.ndarray
    rgba: np.ndarray
    alpha: np.ndarray
    cover: np.ndarray  # what it takes with it, beyond the person's outline too: half-transparent rims do not stay
    joints: list[int] = field(default_factory=list)  # body points that move with it
    hand: int | None = None

    @property
    def corners(self) -> np.ndarray:
        """Corners (4, 2), in pixels, of the box around what is not transparent."""
        x, y, w, h = cv2.boundingRect((self.alpha > 0).astype(np.uint8))
        return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], np.float32)


def _rotation(angle: float, pivot: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Make the 3x3 matrix of a rotation about `pivot`."""
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    m = [[c, -s, pivot[0] - c * pivot[0] + s * pivot[1]], [s, c, pivot[1] - s * pivot[0] - c * pivot[1]], [0, 0, 1]]
    return np.array(m, np.float32)


def _similarity(a: np.ndarray, b: np.ndarray, to_a: np.ndarray, to_b: np.ndarray) -> np.ndarray:
    """Make the 3x3 matrix that turns, stretches and shifts the points a and b (2,) onto to_a and to_b."""
    before, after = complex(*(b - a)), complex(*(to_b - to_a))
    turn = after / before if abs(before) > 1 else 1 + 0j
    m = _rotation(float(np.angle(turn)), a, abs(turn))
    m[:2, 2] += to_a - a
    return m


def _limb(a: np.ndarray, b: np.ndarray, to_a: np.ndarray, to_b: np.ndarray) -> np.ndarray:
    """Make the 3x3 matrix that turns a limb from a to b (2,) onto to_a and to_b.

    It is stretched along itself alone: a limb that turns away from the camera gets shorter and no thinner.
    """
    before, after = complex(*(b - a)), complex(*(to_b - to_a))
    if abs(before) <= 1 or abs(after) <= 1:
        return _similarity(a, b, to_a, to_b)
    there, back = _rotation(float(np.angle(after)), np.zeros(2)), _rotation(-float(np.angle(before)), np.zeros(2))
    back[:2, 2] = -_apply(back, a[None])[0]
    m = there @ np.diag([abs(after) / abs(before), 1, 1]).astype(np.float32) @ back
    m[:2, 2] += to_a
    return m


def _apply(m: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Transform points (N, 2) by a 3x3 matrix."""
    return points @ m[:2, :2].T + m[:2, 2]


class Puppet:
    """A still cut into layers: background, body and arms. Not thread-safe: make one for each worker."""

    def __init__(self, still: Still, gape: float = 0.1):
        self.still = still
        self.size = w, h = still.size
        px = still.keypoints.map(lambda p: (p * np.array([w, h])).astype(np.float32))
        self.points = px
        self.face = PuppetFace(px.face, gape)
        self.grid = np.stack(np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)), -1)
        fh = self.face.height
        chin, brow = px.face[8], px.face[[19, 24]].mean(0)
        self.up = (brow - chin) / (np.linalg.norm(brow - chin) + 1e-6)
        self.head_centre = (chin + brow) / 2 + self.up * 0.12 * fh
        shoulders = px.body_score[2] > VISIBLE and px.body_score[5] > VISIBLE
        self.neck = px.body[1] if shoulders else chin - self.up * 0.35 * fh
        self.span = float(np.linalg.norm(px.body[2] - px.body[5])) if shoulders else 2.2 * fh
        self.pivot = chin + (self.neck - chin) * 0.55
        self.ramp = max(float((self.neck - chin) @ -self.up), 0.25 * fh)
        skin = np.median(still.picture_u8.reshape(-1, 3)[self._pixels(px.face[27:36])], 0)
        lum = float(np.clip(skin.mean() / 150, 0.5, 1.15))
        self.tooth, self.dark = np.array([222, 212, 200]) * lum, np.array([58, 24, 24]) * lum
        mask = still.mask
        self.background = fill_smoothly(still.picture_u8, mask)
        self.bones = self._cut_arms(mask)
        body_alpha, body = mask.copy(), still.picture_u8
        moving = np.zeros_like(mask)
        for chain in self.bones.values():
            for bone in chain[1:]:
                moving = np.maximum(moving, bone.cover)
        if moving.max() > 0:
            torso = np.zeros_like(mask)
            hips = (
                px.body[[8, 11]]
                if min(px.body_score[8], px.body_score[11]) > VISIBLE
                else px.body[[2, 5]] + [0, 2.0 * self.span]
            )
            poly = np.array([px.body[2], px.body[5], hips[1] + [0, self.span], hips[0] + [0, self.span]], np.float32)
            cv2.fillConvexPoly(torso, cv2.convexHull(poly.round().astype(np.int32)), 1.0)
            torso = cv2.GaussianBlur(torso, (0, 0), 2)
            cloth = fill_smoothly(fill_smoothly(still.picture_u8, np.maximum(moving, 1 - mask)), moving)
            body = np.clip(still.picture_u8 * (1 - moving[..., None]) + cloth * moving[..., None], 0, 255).astype(
                np.uint8
            )
            body_alpha = np.where(moving > 0.02, mask * (1 - moving) + torso * moving, mask)
        self.body = np.dstack([body, np.clip(body_alpha * 255, 0, 255).astype(np.uint8)])
        self.filled = np.clip(moving * 1.5, 0, 1)

    def _pixels(self, points: np.ndarray) -> np.ndarray:
        """Convert points to flat indices of the pixels under them."""
        w, h = self.size
        p = np.clip(points.round().astype(int), 0, [w - 1, h - 1])
        return p[:, 1] * w + p[:, 0]

    def _cut_arms(self, mask: np.ndarray) -> dict[int, list[_Bone]]:
        """Cut out upper arm, forearm and hand of each visible arm as soft-edged layers."""
        px, (w, h), chains = self.points, self.size, {}
        inside = lambda i: px.body_score[i] > 0.5 and -0.05 * w < px.body[i, 0] < 1.05 * w and px.body[i, 1] < 1.1 * h  # noqa: E731
        for side, (s, e, wr) in _ARMS.items():
            hand = px.hands[side]
            if not (inside(s) and inside(e) and inside(wr)) or px.hands_score[side].max() < VISIBLE:
                continue
            if hand[:, 1].min() < px.face[8, 1] + 0.1 * self.face.height:
                continue  # a hand at the face stays with it
            wrist = hand[0]

            def capsule(a: np.ndarray, b: np.ndarray, ra: float, rb: float) -> np.ndarray:
                d = b - a
                t = np.clip(((self.grid - a) @ d) / max(float(d @ d), 1.0), 0, 1)
                dist = np.linalg.norm(self.grid - (a + t[..., None] * d), axis=-1)
                return np.clip((ra + (rb - ra) * t - dist) / 2 + 0.5, 0, 1).astype(np.float32)

            palm = float(np.linalg.norm(hand[9] - hand[0]))
            hull = np.zeros((h, w), np.float32)
            cv2.fillConvexPoly(hull, cv2.convexHull(hand.round().astype(np.int32)), 1.0)
            for a, b in ((0, 1), (1, 2), (2, 3), (3, 4), (5, 6), (6, 7), (7, 8), (9, 12), (13, 16), (17, 20)):
                cv2.line(hull, tuple(map(int, hand[a])), tuple(map(int, hand[b])), 1.0, max(1, int(palm * 0.3)))
            # A rim beyond the points, lest the outline of the hand stays behind where it was.
            rim = max(1, round(0.3 * palm))
            hull = cv2.GaussianBlur(cv2.dilate(hull, np.ones((2 * rim + 1, 2 * rim + 1))), (0, 0), 0.7)
            alphas = [
                capsule(px.body[s], px.body[e], 0.2 * self.span, 0.15 * self.span),
                capsule(px.body[e], wrist, 0.15 * self.span, 0.55 * palm),
                hull,
            ]
            # A raised hand before its upper arm does not stay there.
            behind = fill_smoothly(self.still.picture_u8, hull * alphas[0]) if (hull * alphas[0]).any() else None
            pictures = (self.still.picture_u8 if behind is None else behind, *2 * (self.still.picture_u8,))
            bones = []
            for picture, alpha, start, joints, which in zip(
                pictures, alphas, (px.body[s], px.body[e], wrist), ([e], [wr], []), (None, None, side), strict=True
            ):
                own = alpha * mask
                rgba = np.dstack([picture, (own * 255).astype(np.uint8)])
                bones.append(_Bone(start, rgba, own, alpha, joints, which))
            chains[side] = bones
        return chains

    @cached_property
    def clasped(self) -> bool:
        """Whether both hands rest together, so that they must move as one."""
        if len(self.bones) != 2:
            return False
        left, right = self.points.hands
        palm = np.linalg.norm(left[9] - left[0])
        return bool(np.linalg.norm(left[:, None] - right[None], axis=-1).min() < _TOUCHING * palm)

    def _back_body(self, p: np.ndarray, pose: Pose) -> np.ndarray:
        """Map pixels of the frame back to the still by the motion of torso and head, without the face's own."""
        fh, (_, h) = self.face.height, self.size
        reach = max(h - self.neck[1], 0.5 * fh)
        weight = np.clip((h - p[..., 1]) / reach, 0, 1)
        weight = weight * weight * (3 - 2 * weight)
        q = p - weight[..., None] * np.array(pose.sway, np.float32) * fh
        chin = self.points.face[8]
        along = (q - chin) @ -self.up  # below the chin: positive
        head = 1 - np.clip(along / self.ramp, 0, 1)
        head = (head * head * (3 - 2 * head))[..., None]
        m = np.linalg.inv(_rotation(pose.roll, self.pivot))
        shift = np.array(pose.shift, np.float32) * fh
        q = q + head * (_apply(m, q - shift) - q)
        rel = (q - self.head_centre) / fh
        r2 = (rel[..., 0] / 0.75) ** 2 + (rel[..., 1] / 0.95) ** 2
        dome = np.maximum(1 - r2, 0) ** 1.2
        return q - (dome * fh * 0.55)[..., None] * np.array(
            [np.sin(pose.yaw), np.sin(pose.pitch)], np.float32
        ) * np.minimum(head, 1)

    def _forward_body(self, points: np.ndarray, pose: Pose) -> np.ndarray:
        """Map points of the still to the frame, the inverse of `_back_body`, by fixed-point iteration."""
        out = points.astype(np.float32).copy()
        for _ in range(4):
            out = out + (points - self._back_body(out, pose))
        return out

    def _arm_motions(self, pose: Pose) -> dict[int, list[np.ndarray]]:
        """Compute for each arm the forward transforms (3x3) of upper arm, forearm and hand, with the torso's motion."""
        swung = {side: self._swing(side, pose) for side in self.bones}
        if not self.clasped:
            return swung
        # Hands that rest on each other go the same way; each forearm turns and stretches to where its hand is.
        wrists = {side: self.bones[side][2].start for side in (0, 1)}
        hand = np.eye(3, dtype=np.float32)
        hand[:2, 2] = np.mean([_apply(swung[side][1], at[None])[0] - at for side, at in wrists.items()], 0)
        motions = {}
        for side, wrist in wrists.items():
            upper, elbow = swung[side][0], self.bones[side][1].start
            fore = _similarity(elbow, wrist, _apply(upper, elbow[None])[0], wrist + hand[:2, 2])
            motions[side] = [upper, fore, hand]
        return motions

    def _swing(self, side: int, pose: Pose) -> list[np.ndarray]:
        """Compute the transforms of an arm by the angles of its joints."""
        chain, sign = self.bones[side], 1.0 if side == 0 else -1.0
        shoulder, elbow, wrist = (a * sign for a in pose.arms[side])
        base = np.eye(3, dtype=np.float32)
        base[:2, 2] = self._forward_body(chain[0].start[None], pose)[0] - chain[0].start
        upper = base @ _rotation(shoulder, chain[0].start)
        fore = upper @ _rotation(elbow, chain[1].start)
        hand = fore @ _rotation(wrist, chain[2].start)
        if any(pose.reach[side]):
            return self._reach(side, pose.reach[side], upper, fore, hand)
        return [upper, fore, hand]

    def _reach(
        self, side: int, reach: tuple[float, float], upper: np.ndarray, fore: np.ndarray, hand: np.ndarray
    ) -> list[np.ndarray]:
        """Bring a hand, moved by `hand`, further by `reach` (face heights), and the transforms of its arm with it."""
        a, b, c = (bone.start for bone in self.bones[side])
        step = np.array(reach, np.float32) * self.face.height
        at_shoulder, at_elbow = (_apply(upper, at[None])[0] for at in (a, b))
        at_wrist = _apply(hand, c[None])[0]
        elbow, wrist = at_elbow + _ELBOW_SHARE * step, at_wrist + step
        turn = np.angle(complex(*(wrist - elbow)) / (complex(*(at_wrist - at_elbow)) or 1))
        hand = _rotation(float(np.clip(_HAND_TURN * turn, -1, 1)), at_wrist) @ hand
        hand[:2, 2] += step
        return [_limb(a, b, at_shoulder, elbow), _limb(b, c, elbow, wrist), hand]

    def _draw_layer(self, bone: _Bone, m: np.ndarray, picture: np.ndarray, flow: np.ndarray, seen: np.ndarray) -> None:
        """Draw one layer, moved by `m`, over the frame and its labels, in place."""
        w, h = self.size
        corners = _apply(m, bone.corners)
        x0, y0 = np.clip(np.floor(corners.min(0)), 0, [w - 1, h - 1]).astype(int)
        x1, y1 = np.clip(np.ceil(corners.max(0)) + 1, [x0 + 1, y0 + 1], [w, h]).astype(int)
        box, local = np.s_[y0:y1, x0:x1], m[:2].copy()
        local[:, 2] -= (x0, y0)
        layer = cv2.warpAffine(
            bone.rgba, local, (int(x1 - x0), int(y1 - y0)), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT
        )
        a = layer[..., 3:].astype(np.float32) * np.float32(1 / 255)
        picture[box] += (layer[..., :3] - picture[box]) * a
        grid, on = self.grid[box], a[..., 0] > 0.5
        flow[box][on] = (_apply(np.linalg.inv(m), grid) - grid)[on]
        seen[box][on] = 1.0

    def _back_field(self, pose: Pose) -> np.ndarray:
        """Evaluate `_back_body` for every pixel, at a quarter of the size: it is smooth."""
        w, h = self.size
        coarse = cv2.resize(self.grid, (w // 4, h // 4), interpolation=cv2.INTER_LINEAR)
        return self.grid + cv2.resize(self._back_body(coarse, pose) - coarse, (w, h), interpolation=cv2.INTER_LINEAR)

    def render(self, pose: Pose) -> Rendered:
        """Render the frame of a pose with its labels."""
        w, h = self.size
        face = (pose.opening, pose.width, pose.blink, pose.brow, pose.closure)
        q = self._back_field(pose)
        moved = self._forward_body(self.face.bounds.reshape(2, 2), pose)
        x0, y0 = np.clip(np.floor(moved[0]), 0, [w - 1, h - 1]).astype(int)
        x1, y1 = np.clip(np.ceil(moved[1]), [x0 + 1, y0 + 1], [w, h]).astype(int)
        roi = np.s_[y0:y1, x0:x1]
        local = q[roi].copy()
        q[roi], inside, depth = self.face.back(local, *face)
        out = cv2.remap(self.body, q[..., 0], q[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(
            np.float32
        )
        seen = 1 - cv2.remap(self.filled, q[..., 0], q[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if inside.max() > 0:
            u, v = self.face.mouth.to_local(local)
            up, low = self.face.edges(u, pose.opening, pose.closure)
            uncovered = self.face.new_inside(u, v, low - up)
            paint = self.face.paint_inside(out[roi][..., :3], u, depth, low - up, uncovered, self.tooth, self.dark)
            out[roi][..., :3] += (paint - out[roi][..., :3]) * inside[..., None]
            seen[roi] *= 1 - inside * uncovered
        alpha = out[..., 3:] / 255
        picture = self.background + (out[..., :3] - self.background) * alpha
        on_body = alpha[..., 0] > 0.5
        flow = np.where(on_body[..., None], q - self.grid, 0)
        seen = np.where(on_body, seen, 1 - self.still.mask)
        points = self.points
        hands, body = (
            self._forward_body(p, pose) for p in (points.hands, points.body)
        )  # a hand without an arm of its own moves with the body
        motions = self._arm_motions(pose)
        for side, chain in self.bones.items():
            for bone, m in zip(chain, motions[side], strict=True):
                self._draw_layer(bone, m, picture, flow, seen)
                body[bone.joints] = _apply(m, points.body[bone.joints])
                if bone.hand is not None:
                    hands[bone.hand] = _apply(m, points.hands[bone.hand])
        new = Keypoints(
            body,
            points.body_score,
            hands,
            points.hands_score,
            self._forward_body(self.face.forward(points.face, *face), pose),
            points.face_score,
        )
        scale = np.array([w, h], np.float32)
        return Rendered(
            np.clip(picture + 0.5, 0, 255).astype(np.uint8),
            flow.astype(np.float32),
            seen.astype(np.float32),
            new.map(lambda p: (p / scale).astype(np.float32)),
        )
