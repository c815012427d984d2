"""Filling of holes in pictures: what a person or an arm hides is made up from what is around it."""

from __future__ import annotations

import cv2
import numpy as np

_PATCH = 9  # pixels of a patch's side, odd
_MISSING = 32.0  # pixels of the side of a square as large as a hole, once it is made smaller
_STEP = 3  # pixels from one to the next patch of those that are averaged
_NEAR = 0.02  # squared grey levels for each squared pixel that a patch comes from further away
_EDGES = 8.0  # grey levels for a pixel: edges that strong count twice as much as none


def fill_smoothly(picture_u8: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Spread the colours around a hole (float mask (H, W)) of a picture uint8 (H, W, 3) into it.

    For holes as large as a person, which are mostly hidden; at a quarter of the size.
    """
    h, w = hole.shape
    wider = cv2.dilate(hole, _ring(3))
    small = cv2.resize(picture_u8, (w // 4, h // 4), interpolation=cv2.INTER_AREA)
    mask = (cv2.resize(wider, (w // 4, h // 4)) > 0.05).astype(np.uint8)
    if mask.all():
        return picture_u8
    filled = cv2.resize(cv2.inpaint(small, mask, 3, cv2.INPAINT_TELEA), (w, h), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(wider, (0, 0), 1.5)[..., None]
    return np.clip(picture_u8 * (1 - soft) + filled * soft, 0, 255).astype(np.uint8)


def fill_hole(picture_u8: np.ndarray, hole: np.ndarray, avoid: np.ndarray | None = None) -> np.ndarray:
    """Fill the hole (float mask (H, W)) of a picture uint8 (H, W, 3) with what is around it, piece by piece.

    avoid (H, W): what is not to be repeated in it. Each piece is looked at small, because it is mostly hidden. A
    picture that is all hole stays as it is.
    """
    holes = _widen(hole)
    return _fill(picture_u8, holes, holes, holes if avoid is None else np.maximum(holes, avoid > 0))


def fill_behind(
    picture_u8: np.ndarray, hole: np.ndarray, avoid: np.ndarray, person: np.ndarray, bones: np.ndarray
) -> np.ndarray:
    """Fill a hole of a picture as `fill_hole` does, with what is person by the person, with the rest by the rest.

    Patches that know no person carry cloth into the wall and the wall into cloth. person (H, W) in 0..1: what is theirs
    outside the hole; bones (H, W): what surely is in it. Where the one meets the other in the hole their edge goes on.
    """
    holes = _widen(hole)
    unknown = np.maximum(holes, avoid > 0)
    theirs, others = (person > 0.5) & (unknown == 0), (person < 0.1) & (unknown == 0)
    if not theirs.any() or not others.any():
        return fill_hole(picture_u8, hole, avoid)
    body = (holes > 0) & continue_person(person, unknown > 0, bones)
    out = picture_u8
    for part, known in ((holes & ~body, others), (holes & body, theirs)):
        away = (~known).astype(np.uint8)
        out = _fill(out, part.astype(np.uint8), away, away)
    return out


def continue_person(person: np.ndarray, unknown: np.ndarray, bones: np.ndarray) -> np.ndarray:
    """Estimate where a person goes on behind what is `unknown`, a mask (H, W): bool (H, W).

    person, bones: as in `fill_behind`.
    """
    theirs, others = (person > 0.5) & ~unknown, (person < 0.1) & ~unknown
    return (bones > 0) | (_spread(theirs.astype(np.float32), (theirs | others).astype(np.float32)) > 0.5)


def _widen(hole: np.ndarray) -> np.ndarray:
    return cv2.dilate((hole > 0.05).astype(np.uint8), _ring(2))


def _spread(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Spread `values` (H, W) from where `known` (H, W), 0 or 1, says that they are known, over the rest."""
    levels = [(values * known, known)]
    while min(levels[-1][0].shape) > 2:
        levels.append((cv2.pyrDown(levels[-1][0]), cv2.pyrDown(levels[-1][1])))
    wide = levels[-1][0] / np.maximum(levels[-1][1], 1e-6)
    for value, sure in reversed(levels[:-1]):
        wide = cv2.pyrUp(wide, dstsize=value.shape[::-1])
        wide = wide + (value / np.maximum(sure, 1e-6) - wide) * np.clip(2 * sure, 0, 1)
    return wide


def _fill(picture_u8: np.ndarray, wanted: np.ndarray, unknown: np.ndarray, no_source: np.ndarray) -> np.ndarray:
    """Fill what is `wanted` of a picture uint8 (H, W, 3), piece by piece.

    unknown (H, W), 0 or 1: besides it what no piece is to go on from; no_source: and what is not to be repeated.
    """
    out, (h, w) = picture_u8.copy(), wanted.shape
    count, pieces, boxes, _ = cv2.connectedComponentsWithStats(wanted)
    for piece in range(1, count):
        left, top, width, height = boxes[piece, :4]
        around = round(0.75 * max(width, height)) + _PATCH
        x0, x1 = max(left - around, 0), min(left + width + around, w)
        y0, y1 = max(top - around, 0), min(top + height + around, h)
        missing = (pieces[y0:y1, x0:x1] == piece).astype(np.float32)
        scale = min(1.0, _MISSING / float(missing.sum()) ** 0.5)
        size = max(_PATCH, round((x1 - x0) * scale)), max(_PATCH, round((y1 - y0) * scale))
        small = cv2.resize(out[y0:y1, x0:x1], size, interpolation=cv2.INTER_AREA)
        gone, strange, others = (
            cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
            for mask in (missing, unknown[y0:y1, x0:x1], no_source[y0:y1, x0:x1])
        )
        filled = _continue_pattern(small, gone, gone | strange, gone | others)
        if filled is None:
            continue
        large = cv2.resize(filled, (x1 - x0, y1 - y0), interpolation=cv2.INTER_CUBIC)
        soft = cv2.GaussianBlur(missing, (0, 0), 1.0)[..., None]
        out[y0:y1, x0:x1] = np.clip(out[y0:y1, x0:x1] * (1 - soft) + large * soft, 0, 255)
    return out


def _continue_pattern(
    picture_u8: np.ndarray, wanted: np.ndarray, strange: np.ndarray, no_source: np.ndarray
) -> np.ndarray | None:
    """Fill what is `wanted` (h, w) of a picture uint8 (h, w, 3) with patches from elsewhere in it, edges first.

    strange (h, w): it, and what patches are not compared with; no_source (h, w): what no patch may hold.

    After Criminisi et al., "Region Filling and Object Removal by Exemplar-Based Image Inpainting" (2004): inpainting by
    diffusion makes a blur of a sleeve and the wall behind it. None where too little is known.
    """
    half = _PATCH // 2
    image = np.pad(picture_u8, ((half, half), (half, half), (0, 0)), mode="reflect").astype(np.float32)
    unknown, lacks = (np.pad(mask.astype(np.uint8), half, mode="reflect") for mask in (strange, wanted))
    whole = cv2.dilate(no_source.astype(np.uint8), _ring(half)) == 0  # centres of patches that may be taken
    if not whole.any():
        return None
    sure = (1 - unknown).astype(np.float32)
    y, x = np.mgrid[: whole.shape[0], : whole.shape[1]].astype(np.float32)
    image[unknown > 0] = 0
    while lacks[half:-half, half:-half].any():
        edge = (cv2.dilate(1 - unknown, _ring(1)) * unknown)[half:-half, half:-half] > 0
        if (theirs := edge & (lacks[half:-half, half:-half] > 0)).any():
            edge = theirs
        if not edge.any():
            return None
        row, column = _most_urgent(image, unknown, sure, edge, half)
        at = np.s_[row : row + _PATCH, column : column + _PATCH]
        known = 1 - unknown[at]
        weights = np.repeat(known[..., None].astype(np.float32), 3, 2)
        unlike = cv2.matchTemplate(image, image[at], cv2.TM_SQDIFF, mask=weights) / max(float(known.sum()), 1.0)
        unlike = unlike + _NEAR * ((y - row) ** 2 + (x - column) ** 2)
        best_row, best_column = np.unravel_index(np.where(whole, unlike, np.inf).argmin(), whole.shape)
        new = unknown[at] > 0
        image[at][new] = image[best_row : best_row + _PATCH, best_column : best_column + _PATCH][new]
        sure[at][new] = sure[at].mean()
        unknown[at] = lacks[at] = 0
    _agree(image, np.pad(wanted, half, mode="reflect"), unknown, whole)
    return image[half:-half, half:-half].clip(0, 255).astype(np.uint8)


def _agree(image: np.ndarray, missing: np.ndarray, unknown: np.ndarray, whole: np.ndarray) -> None:
    """Make what is `missing` in the image float32 (H, W, 3) the mean of the patches nearest to those that lie there.

    Seams between patches go away. unknown (H, W), 0 or 1: what is still not known beside it. After Wexler et al.,
    "Space-Time Completion of Video" (2007).
    """
    half = _PATCH // 2
    total, count = np.zeros_like(image), np.full(missing.shape, 1e-6, np.float32)
    inner = np.hanning(_PATCH + 2)[1:-1].astype(np.float32)
    weights = np.outer(inner, inner)  # so that no patch has an edge
    lies = cv2.dilate(missing.astype(np.uint8), _ring(half - 1))[half:-half, half:-half]
    for row, column in _STEP * np.argwhere(lies[::_STEP, ::_STEP]):
        at = np.s_[row : row + _PATCH, column : column + _PATCH]
        known = 1 - unknown[at]
        mask = None if known.all() else np.repeat(known[..., None].astype(np.float32), 3, 2)
        unlike = cv2.matchTemplate(image, image[at], cv2.TM_SQDIFF, mask=mask)
        best_row, best_column = np.unravel_index(np.where(whole, unlike, np.inf).argmin(), whole.shape)
        total[at] += weights[..., None] * image[best_row : best_row + _PATCH, best_column : best_column + _PATCH]
        count[at] += weights
    covered = missing & (count > 0.1)
    image[covered] = (total / count[..., None])[covered]


def _most_urgent(
    image: np.ndarray, unknown: np.ndarray, sure: np.ndarray, edge: np.ndarray, half: int
) -> tuple[int, int]:
    """Choose the place of `edge` whose surroundings are best known, and where lines run into the hole."""
    grey = cv2.cvtColor(cv2.blur(image, (3, 3)), cv2.COLOR_RGB2GRAY)
    inner = cv2.erode(1 - unknown, _ring(1)).astype(np.float32)  # differences with what is missing say nothing
    across, down = (cv2.Sobel(grey, cv2.CV_32F, *d) * inner for d in ((1, 0), (0, 1)))
    strongest = cv2.dilate(np.hypot(across, down), _ring(half))
    trust = cv2.blur(sure, (_PATCH, _PATCH))
    urgency = (trust * (strongest + _EDGES))[half:-half, half:-half]
    row, column = np.unravel_index(np.where(edge, urgency, -1.0).argmax(), edge.shape)
    return int(row), int(column)


def _ring(reach: int) -> np.ndarray:
    """A square kernel of ones that reaches so far."""
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
