"""The head's motion: a face of the reference's shape that turns, talks and blinks as the driving does."""

from __future__ import annotations

import numpy as np

from ..conditions.keypoints import NECK
from .proportions import FACE, HEAD, Figure, as_complex, as_points

# Of the 68 points: what moves with the skull alone (nose, corners of the eyes), and pairs of lips and lids that meet.
_STABLE = np.array([27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 39, 42, 45])
_INNER_LIPS = ((61, 67), (62, 66), (63, 65))
_UPPER_LIP, _LOWER_LIP, _JAW = [49, 50, 51, 52, 53, 61, 62, 63], [55, 56, 57, 58, 59, 65, 66, 67], [6, 7, 8, 9, 10]
_LIDS = (((37, 41), (38, 40)), ((43, 47), (44, 46)))


def move_head(drive: Figure, reference: Figure, anchor: int, scale: float, neck: np.ndarray) -> np.ndarray:
    """(T, 73, 2): the head's five body points and the 68 of the face, about the moved `neck` (T, 2).

    With a face in the driving: a similarity takes the driving's face from the anchor to each frame (turning in the picture, nearing the camera);
    what is left, the face's own motion and the turning out of the picture, is added to the reference's shape in its own measures.
    Without one the head rides on the neck.
    """
    places = np.concatenate([np.array(HEAD), np.arange(FACE.start, FACE.stop)])
    own = reference.points[0, places]
    if not drive.ever[FACE].all():
        offset = own - reference.points[0, NECK]
        moved = drive.points[:, places] - drive.points[:, NECK, None]
        change = np.where(drive.ever[places][:, None], moved - moved[anchor], 0)
        return neck[:, None] + offset + scale * change
    points = drive.points[:, places]
    face = points[:, 5:]
    stable = face[:, _STABLE]
    centre = stable.mean(1)
    turn = _similarity(stable[anchor] - centre[anchor], stable - centre[:, None])
    # Complex numbers turn and scale by a product.
    flat = as_complex(points - centre[:, None]) / turn[:, None]
    residual = flat - flat[anchor]
    shape = own - own[5:][_STABLE].mean(0)
    upright, own_upright = _roll(face[anchor]), _roll(own[5:])
    across, along = _measures(face[anchor], upright), _measures(own[5:], own_upright)
    ratio = along / np.maximum(across, 1e-9)
    local = residual / upright
    local = local.real * ratio[0] + 1j * local.imag * ratio[1]
    formed = as_complex(shape) / own_upright + local
    _open_mouth(formed[:, 5:], flat[:, 5:] / upright, ratio[1])
    _open_eyes(formed[:, 5:], flat[:, 5:] / upright, anchor, as_complex(shape[5:]) / own_upright)
    head = as_points(formed * own_upright * turn[:, None])
    size = float(np.sqrt(ratio[0] * ratio[1]))
    carried = centre - drive.points[:, NECK] if drive.ever[NECK] else centre
    own_centre = own[5:][_STABLE].mean(0)
    at = neck + own_centre - reference.points[0, NECK] + size * (carried - carried[anchor])
    return head + at[:, None]


def _similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(T,) the complex factor that takes centred points a (N, 2) nearest to b (T, N, 2)."""
    a, b = as_complex(a), as_complex(b)
    return (b * a.conj()).sum(1) / max(float((a * a.conj()).real.sum()), 1e-12)


def _roll(face: np.ndarray) -> complex:
    """The direction of the line through the eyes of a face (68, 2), of length one."""
    line = complex(*(face[42:48].mean(0) - face[36:42].mean(0)))
    return line / max(abs(line), 1e-9)


def _measures(face: np.ndarray, upright: complex) -> np.ndarray:
    """Width (between the jaw's ends) and height (brows to chin) of a face (68, 2) once it is upright."""
    local = as_complex(face) / upright
    return np.array([local[16].real - local[0].real, local[8].imag - (local[19].imag + local[24].imag) / 2])


def _gap(face: np.ndarray, pairs: tuple[tuple[int, int], ...]) -> np.ndarray:
    """(T,) the mean height between pairs of points of upright faces (T, 68)."""
    return np.mean([face[:, low].imag - face[:, high].imag for high, low in pairs], 0)


def _open_mouth(face: np.ndarray, driving: np.ndarray, ratio: float) -> None:
    """Part the lips as far as the driving's are, in heights of the face, and not only as much further as they are: closed lips close."""
    more = ratio * _gap(driving, _INNER_LIPS) - _gap(face, _INNER_LIPS)
    face[:, _UPPER_LIP] -= 0.25j * more[:, None]
    face[:, _LOWER_LIP + _JAW] += 0.75j * more[:, None]


def _open_eyes(face: np.ndarray, driving: np.ndarray, anchor: int, own: np.ndarray) -> None:
    """Shut each eye to that part of the reference's opening which the driving's is of its own at the anchor: small eyes shut, and do not cross.

    What opens further than at the anchor keeps what it has, as much further as the driving's.
    """
    for pairs in _LIDS:
        usual = _gap(driving, pairs)
        shutting = usual < usual[anchor]
        wanted = _gap(own[None], pairs) * usual / max(float(usual[anchor]), 1e-9)
        more = np.where(shutting, wanted - _gap(face, pairs), 0)
        for high, low in pairs:
            face[:, high] -= 0.5j * more
            face[:, low] += 0.5j * more
