"""Retargeting: a driving person's motion with the proportions of the person in the reference picture.

See docs/reference/driving.md.

One frame of the driving, the anchor (one for head and trunk, one for the arms), is laid onto the reference, and every
other frame differs from it as the driving does: bones turn as the driving's turn and have the reference's lengths; the
face keeps the reference's shape and takes the driving's motion. At the anchor elbow and wrist are where the reference
has them. Near it they move as the driving's do, so that a small gesture stays small; the further the driving has moved
its arm from there, the more the pose is the driving's: a hand that is raised to the head arrives at the head. For the
elbow it is its own way that counts: one that hardly moves does so as the driving's, wherever its hand goes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cyberhost_model.driving.proportions import (
    ARM_ENDS,
    HEAD,
    LONGER,
    SHORTER,
    WRISTS,
    Figure,
    arm_distances,
    bone_scale,
    choose_arm_anchor,
    choose_head_anchor,
    complete_figure,
    figure_of,
    from_complex,
    hand_size,
    head_distances,
    overall_scale,
    reference_figure,
    shoulder_width,
    to_complex,
    visible_bones,
)
from cyberhost_model.driving.sequence import FACE, HANDS, PoseSequence
from cyberhost_model.errors import InputError
from cyberhost_model.perception.keypoints import INNER_LIPS, LIDS, NECK, Keypoints

CHAINS = ((5, 6, 7), (2, 3, 4))  # shoulder, elbow, wrist of the left and the right arm
# Arm lengths that the arm may go before its pose is more the driving's than the reference's; further where these are
# further apart.
_HOME = 0.3
# A hand may look that much smaller or larger in the picture than at the anchor: either may be turned.
_SIZE_RANGE = 2.0
# Of the 68 points: those that move with the skull alone (nose, corners of the eyes), and those that lips move.
_STABLE = np.array([27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 39, 42, 45])
_UPPER_LIP, _LOWER_LIP, _JAW = [49, 50, 51, 52, 53, 61, 62, 63], [55, 56, 57, 58, 59, 65, 66, 67], [6, 7, 8, 9, 10]
_SIDES = ("left", "right")


def arm_root(drive: Figure, side: int) -> int:
    """Choose where an arm begins: at the shoulder, at the neck where that is never visible."""
    shoulder = CHAINS[side][0]
    return shoulder if drive.ever_visible[shoulder] else NECK


def move_arm(
    drive: Figure, own: Figure, side: int, anchor: int, scale: float, root: np.ndarray
) -> dict[int, np.ndarray]:
    """Move the left (0) or right (1) arm from the moved `root` (T, 2) on: point -> its places (T, 2).

    The hand's 21 points are among them. `own` is complete (`proportions.complete_figure`). An elbow that is never
    visible is passed over. No bone is longer than the reference shows it, or the driving at the reference's scale.
    """
    ever_visible = drive.ever_visible
    chain = [arm_root(drive, side), *(p for p in CHAINS[side][1:] if ever_visible[p])]
    moved = {chain[0]: root}
    width = float(shoulder_width(own)[0])
    pose, full = root, [0.0]  # the driving's pose with the reference's lengths
    poses = [root]
    for child, parent in zip(chain[1:], chain, strict=False):
        bone = drive.points[:, child] - drive.points[:, parent]
        lengths, there = (
            np.linalg.norm(bone, axis=-1),
            float(np.linalg.norm(own.points[0, child] - own.points[0, parent])),
        )
        scaled = bone_scale(lengths, drive.visible[:, child] & drive.visible[:, parent], anchor, there, scale, width)
        pose = pose + scaled * bone
        poses.append(pose)
        full.append(max(scaled * float(lengths.max()), there))
    off = [
        own.points[0, p] - own.points[0, chain[0]] - (pose - root)[anchor] for p, pose in zip(chain, poses, strict=True)
    ]
    home = _home_weight([pose - root for pose in poses], off, anchor, sum(full))
    for child, parent, pose, shift, most in zip(chain[1:], chain, poses[1:], off[1:], full[1:], strict=False):
        moved[child] = _within(pose + home[:, None] * shift, moved[parent], most)
    wrist = WRISTS[side]
    if len(chain) == 3:  # the elbow by its own way alone: the hand's has nothing to do with how an elbow moves
        alone = _home_weight([pose - root for pose in poses[:2]], off[:2], anchor, sum(full))
        moved[chain[1]] = _nearest_elbow(poses[1] + alone[:, None] * off[1], root, moved[wrist], *full[1:])
    if ever_visible[wrist] and ever_visible[HANDS[side]].all():
        moved |= dict(
            zip(
                range(HANDS[side].start, HANDS[side].stop),
                move_hand(drive, own, side, anchor, scale, home, moved[wrist]),
                strict=True,
            )
        )
    return moved


def _home_weight(poses: Sequence[np.ndarray], off: Sequence[np.ndarray], anchor: int, length: float) -> np.ndarray:
    """(T,) how much each frame's pose is the picture's: 1 at the anchor, 0 far from it.

    It is a Gaussian of how far the joints after the first have gone, as wide as the two poses are apart: a narrower one
    would turn the arm back while the driving goes on.
    """
    gone = (
        np.sqrt(np.mean([np.square(pose - pose[anchor]).sum(-1) for pose in poses[1:]], 0))
        if len(poses) > 1
        else np.zeros(len(poses[0]))
    )
    apart = float(np.sqrt(np.mean([np.square(shift).sum() for shift in off[1:]]))) if len(off) > 1 else 0.0
    return np.exp(-0.5 * (gone / max(_HOME * length, apart, 1e-9)) ** 2)


def _nearest_elbow(elbow: np.ndarray, root: np.ndarray, wrist: np.ndarray, upper: float, fore: float) -> np.ndarray:
    """(T, 2) the place nearest to `elbow` within `upper` of `root` and within `fore` of `wrist`.

    Root and wrist are no further apart than both lengths together.
    """
    by_root, by_wrist = _within(elbow, root, upper), _within(elbow, wrist, fore)
    # Where neither of the circles' nearest points will do, it is where they cross, on the elbow's side.
    line = to_complex(wrist - root)
    apart = np.maximum(np.abs(line), 1e-9)
    along = (apart**2 + upper**2 - fore**2) / (2 * apart)
    side = np.where((to_complex(elbow - root) * line.conj()).imag < 0, -1, 1)
    crossing = along + 1j * side * np.sqrt(np.maximum(upper**2 - along**2, 0))
    nearest = np.where(_far(by_root, wrist) <= fore + 1e-9, by_root, root + from_complex(crossing * line / apart))
    return np.where(_far(by_wrist, root) <= upper + 1e-9, by_wrist, nearest)


def _far(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points - centre, axis=-1, keepdims=True)


def _within(points: np.ndarray, centre: np.ndarray, most: float) -> np.ndarray:
    return centre + (points - centre) * np.minimum(1, most / np.maximum(_far(points, centre), 1e-9))


def move_hand(
    drive: Figure, own: Figure, side: int, anchor: int, scale: float, home: np.ndarray, wrist: np.ndarray
) -> np.ndarray:
    """Move the driving's hand to the moved wrist, in the reference's size: (21, T, 2).

    `home` (T,): how much each frame's pose is the picture's; there the hand is turned as the reference's.
    """
    hand, root = HANDS[side], WRISTS[side]
    z = to_complex(drive.points[:, hand] - drive.points[:, root, None])
    factor: np.ndarray | float = scale
    if own.ever_visible[hand].all():
        size, wanted = hand_size(drive.points[:, hand]), float(hand_size(own.points[:, hand])[0])
        usual = bone_scale(size, np.asarray(drive.visible[:, hand].all(1)), anchor, wanted, scale, wanted)
        # From the wrist to the middle finger's knuckle. Hands that point apart face apart too: no turn makes one of the
        # other.
        palms = [complex(to_complex(p[hand.start + 9] - p[hand.start])) for p in (drive.points[anchor], own.points[0])]
        apart = float(np.angle(palms[1] / palms[0])) if min(map(abs, palms)) > 1e-9 else 0.0
        exact = float(np.clip(wanted / max(float(size[anchor]), 1e-9), scale / _SIZE_RANGE, scale * _SIZE_RANGE))
        factor = usual * (exact / usual) ** home * np.exp(1j * home * apart * max(0.0, np.cos(apart)))
    return wrist + from_complex(z.T * factor)


def move_head(drive: Figure, reference: Figure, anchor: int, scale: float, neck: np.ndarray) -> np.ndarray:
    """Move the head's five body points and the 68 of the face about the moved `neck` (T, 2): (T, 73, 2).

    With a face in the driving: a similarity takes the driving's face from the anchor to each frame (turning in the
    picture, nearing the camera); what is left, the face's own motion and the turning out of the picture, is added to
    the reference's shape in its own measures. Without one the head moves with the neck.
    """
    places = np.concatenate([np.array(HEAD), np.arange(FACE.start, FACE.stop)])
    own = reference.points[0, places]
    if not drive.ever_visible[FACE].all():
        offset = own - reference.points[0, NECK]
        moved = drive.points[:, places] - drive.points[:, NECK, None]
        change = np.where(drive.ever_visible[places][:, None], moved - moved[anchor], 0)
        return neck[:, None] + offset + scale * change
    points = drive.points[:, places]
    face = points[:, 5:]
    stable = face[:, _STABLE]
    centre = stable.mean(1)
    turn = _similarity(stable[anchor] - centre[anchor], stable - centre[:, None])
    # Complex numbers turn and scale by a product.
    flat = to_complex(points - centre[:, None]) / turn[:, None]
    residual = flat - flat[anchor]
    shape = own - own[5:][_STABLE].mean(0)
    upright, own_upright = _roll(face[anchor]), _roll(own[5:])
    across, along = _measures(face[anchor], upright), _measures(own[5:], own_upright)
    ratio = along / np.maximum(across, 1e-9)
    local = residual / upright
    local = local.real * ratio[0] + 1j * local.imag * ratio[1]
    formed = to_complex(shape) / own_upright + local
    _open_mouth(formed[:, 5:], flat[:, 5:] / upright, ratio[1])
    _open_eyes(formed[:, 5:], flat[:, 5:] / upright, anchor, to_complex(shape[5:]) / own_upright)
    head = from_complex(formed * own_upright * turn[:, None])
    size = float(np.sqrt(ratio[0] * ratio[1]))
    carried = centre - drive.points[:, NECK] if drive.ever_visible[NECK] else centre
    own_centre = own[5:][_STABLE].mean(0)
    at = neck + own_centre - reference.points[0, NECK] + size * (carried - carried[anchor])
    return head + at[:, None]


def _similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(T,) the complex factor that takes centred points a (N, 2) nearest to b (T, N, 2)."""
    a, b = to_complex(a), to_complex(b)
    return (b * a.conj()).sum(1) / max(float((a * a.conj()).real.sum()), 1e-12)


def _roll(face: np.ndarray) -> complex:
    """The direction of the line through the eyes of a face (68, 2), of length one."""
    line = complex(*(face[42:48].mean(0) - face[36:42].mean(0)))
    return line / max(abs(line), 1e-9)


def _measures(face: np.ndarray, upright: complex) -> np.ndarray:
    """Width (between the jaw's ends) and height (brows to chin) of a face (68, 2) once it is upright."""
    local = to_complex(face) / upright
    return np.array([local[16].real - local[0].real, local[8].imag - (local[19].imag + local[24].imag) / 2])


def _gap(face: np.ndarray, pairs: tuple[tuple[int, int], ...]) -> np.ndarray:
    """(T,) the mean height between pairs of points of upright faces (T, 68)."""
    return np.mean([face[:, low].imag - face[:, high].imag for high, low in pairs], 0)


def _open_mouth(face: np.ndarray, driving: np.ndarray, ratio: float) -> None:
    """Part the lips as far as the driving's are, in heights of the face, and not only as much further as they are.

    So closed lips close.
    """
    more = ratio * _gap(driving, INNER_LIPS) - _gap(face, INNER_LIPS)
    face[:, _UPPER_LIP] -= 0.25j * more[:, None]
    face[:, _LOWER_LIP + _JAW] += 0.75j * more[:, None]


def _open_eyes(face: np.ndarray, driving: np.ndarray, anchor: int, own: np.ndarray) -> None:
    """Shut each eye to that part of the reference's opening which the driving's is of its own at the anchor.

    So small eyes shut, and do not cross. What opens further than at the anchor keeps what it has, as much further as
    the driving's.
    """
    for pairs in LIDS:
        usual = _gap(driving, pairs)
        shutting = usual < usual[anchor]
        wanted = _gap(own[None], pairs) * usual / max(float(usual[anchor]), 1e-9)
        more = np.where(shutting, wanted - _gap(face, pairs), 0)
        for high, low in pairs:
            face[:, high] -= 0.5j * more
            face[:, low] += 0.5j * more


def hands_for(sequence: PoseSequence, reference: Keypoints, reference_size: tuple[int, int]) -> PoseSequence:
    """Move the template's hands to the hands of `reference`, in a picture of `reference_size` (W, H).

    Only the hands drive, the speech moves the rest (paper, section 4.4): nothing else is visible in the result. For
    each hand the frame of the template that is most similar to the picture is laid onto the picture's wrist, and the
    arm moves on from there, its shoulder standing still. A hand the picture does not show is left out and `warnings`
    says so. Raises InputError where the template shows no hand, or none of those that the picture shows.
    """
    drive, own = figure_of(sequence), reference_figure(reference, reference_size)
    shown = [side for side in (0, 1) if drive.ever_visible[HANDS[side]].all()]
    if not shown:
        raise InputError("the template shows no hands: give one that does")
    used = [side for side in shown if own.ever_visible[WRISTS[side]]]
    if not used:
        raise InputError(
            f"the picture shows no {' and no '.join(_SIDES[s] for s in shown)} hand for the template to move; use "
            "another picture or template"
        )
    out, scores = np.zeros_like(drive.points), np.zeros_like(sequence.scores())
    for side in used:
        out[:, HANDS[side]] = _place_hand(drive, own, side)
        scores[:, HANDS[side]] = sequence.scores()[:, HANDS[side]]
    placed = sequence.with_points(out / [reference_size[0] / reference_size[1], 1], scores, size=reference_size)
    placed.warnings += [
        f"the picture shows no {_SIDES[s]} hand: the template's is left out" for s in shown if s not in used
    ]
    return placed


def _place_hand(drive: Figure, own: Figure, side: int) -> np.ndarray:
    """(T, 21, 2) one hand on the reference."""
    hand, wrist = HANDS[side], WRISTS[side]
    anchor = choose_arm_anchor(_hand_distances(drive, own, side))
    scale = overall_scale(drive, own, anchor)
    root = arm_root(drive, side)
    if drive.ever_visible[root] and own.ever_visible[root]:
        whole = complete_figure(own, drive, anchor, anchor, scale)
        still = np.repeat(whole.points[:, root], len(drive.points), 0)
        moved = move_arm(drive, whole, side, anchor, scale, still)
        return np.stack([moved[place] for place in range(hand.start, hand.stop)], 1)
    # There is no arm to go by: the wrist moves as the template's does in its picture.
    path = own.points[0, wrist] + scale * (drive.points[:, wrist] - drive.points[anchor, wrist])
    return move_hand(drive, own, side, anchor, scale, np.ones(len(path)), path).transpose(1, 0, 2)


def _hand_distances(drive: Figure, own: Figure, side: int) -> np.ndarray:
    """(T,) how far a hand is from the reference's: its shape in hand sizes, and its place against the neck.

    The place counts in shoulder widths.
    """
    hand, wrist = HANDS[side], WRISTS[side]
    total = np.zeros(len(drive.points))
    if own.ever_visible[hand].all():
        here, there = drive.points[:, hand], own.points[:, hand]
        shape = (here - here[:, :1]) / hand_size(here)[:, None, None] - (there - there[:, :1]) / hand_size(there)[
            :, None, None
        ]
        total += 0.1 * np.linalg.norm(shape, axis=-1).mean(1)
    if drive.ever_visible[NECK] and own.ever_visible[NECK]:
        at = (drive.points[:, wrist] - drive.points[:, NECK]) / shoulder_width(drive)[:, None]
        place = (own.points[0, wrist] - own.points[0, NECK]) / shoulder_width(own)[0]
        total += np.linalg.norm(at - place, axis=-1)
    return np.where(drive.visible[:, hand].all(1), total, np.inf)


def retarget(sequence: PoseSequence, reference: Keypoints, reference_size: tuple[int, int]) -> PoseSequence:
    """Convert `sequence` to what the person of `reference` would perform, in a picture of `reference_size` (W, H).

    Scores are the driving's; what the reference does not show has the driving's proportions at the reference's scale.
    Raises InputError where the driving or the reference shows neither shoulders nor a face.
    """
    drive, own = figure_of(sequence), reference_figure(reference, reference_size)
    for figure, name in ((drive, "the driving"), (own, "the picture")):
        if not figure.ever_visible[NECK]:
            raise InputError(f"{name} shows neither shoulders nor a face: there is nothing to fit the motion by")
    anchor, arms = choose_head_anchor(drive, head_distances(drive, own)), choose_arm_anchor(arm_distances(drive, own))
    scale = overall_scale(drive, own, anchor)
    own = complete_figure(own, drive, anchor, arms, scale)
    out = np.zeros_like(drive.points)
    out[:, NECK] = own.points[0, NECK] + scale * (drive.points[:, NECK] - drive.points[anchor, NECK])
    for child, parent in visible_bones(drive):
        if child not in ARM_ENDS:
            out[:, child] = out[:, parent] + _trunk_bone(drive, own, child, parent, anchor, scale)
    for side in (0, 1):
        for place, points in move_arm(drive, own, side, arms, scale, out[:, arm_root(drive, side)]).items():
            out[:, place] = points
    head = move_head(drive, own, anchor, scale, out[:, NECK])
    out[:, list(HEAD)], out[:, FACE] = head[:, :5], head[:, 5:]
    return sequence.with_points(
        out / [reference_size[0] / reference_size[1], 1], sequence.scores(), size=reference_size
    )


def _trunk_bone(drive: Figure, own: Figure, child: int, parent: int, anchor: int, scale: float) -> np.ndarray:
    """(T, 2) a bone of the trunk or a leg.

    At the anchor it is the picture's, and from there turned and foreshortened as the driving's is.
    """
    bone, picture = (f.points[:, child] - f.points[:, parent] for f in (drive, own))
    z, there = bone[:, 0] + 1j * bone[:, 1], complex(*picture[0])
    length = np.clip(abs(there / z[anchor]), scale * SHORTER, scale * LONGER) if abs(z[anchor]) > 1e-9 else scale
    moved = z * length * np.exp(1j * np.angle(there * z[anchor].conj()))
    return np.stack([moved.real, moved.imag], -1)
