"""A hole in a picture is filled with what is around it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cyberhost_model.media.inpaint import fill_behind, fill_hole, fill_smoothly

HOLE = np.s_[40:80, 44:84]


@pytest.fixture
def halves() -> np.ndarray:
    """A dark coat before a light wall, with some grain."""
    picture = np.random.default_rng(0).normal(0, 3, (120, 128, 3))
    picture += np.where(np.arange(128) < 64, 40, 200)[None, :, None]
    return picture.clip(0, 255).astype(np.uint8)


def holed(picture: np.ndarray, *holes: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray]:
    mask, seen = np.zeros(picture.shape[:2], np.float32), picture.copy()
    for hole in holes:
        mask[hole] = 1
        seen[hole] = (255, 0, 0)
    return seen, mask


def test_an_edge_goes_on_through_the_hole(halves):
    """Diffusion makes a grey blur of coat and wall."""
    seen, mask = holed(halves, HOLE)
    filled, diffused = fill_hole(seen, mask), cv2.inpaint(seen, mask.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    off = [np.abs(one[HOLE].astype(int) - halves[HOLE]).max(-1) > 20 for one in (filled, diffused)]
    assert off[0].mean() < 0.2 and off[0].mean() < 0.5 * off[1].mean()
    assert np.abs(filled.astype(int) - halves)[mask == 0].mean() < 1


def test_what_is_to_be_avoided_is_not_repeated(halves):
    seen, mask = holed(halves[:, :64], np.s_[40:70, 20:50])
    seen[70:100, 20:50] = (0, 255, 0)  # an arm that goes on below
    avoid = np.zeros_like(mask)
    avoid[70:100, 20:50] = 1
    green = [int((fill_hole(seen, mask, given)[45:65, 25:45, 1] > 120).sum()) for given in (avoid, None)]
    assert green[0] == 0 < green[1]


def test_cloth_does_not_run_into_the_wall_nor_the_wall_into_cloth():
    """A jagged edge in a hole: what is known to be whose keeps both apart, and bones say what is the person's."""
    rng = np.random.default_rng(0)
    truth = np.where(np.arange(128) < 64, 40, 200)[None, :, None] + rng.normal(0, 3, (120, 128, 3))
    truth = truth.clip(0, 255).astype(np.uint8)
    seen, mask = holed(truth, np.s_[30:90, 40:90])
    person = np.repeat((np.arange(128) < 64)[None], 120, 0).astype(np.float32)
    nothing = np.zeros_like(mask)
    filled = fill_behind(seen, mask, nothing, person, nothing)
    grey = filled[30:90, 40:90].mean(-1)
    assert ((grey > 70) & (grey < 170)).mean() < 0.08  # an edge, no blur
    assert np.abs(filled.astype(int) - truth)[30:90, 40:90].mean() < 25
    bones = nothing.copy()
    bones[55:65, 64:80] = 1  # an arm that goes on to the right
    arm = fill_behind(seen, mask, nothing, person, bones)[57:63, 66:78].mean()
    assert arm < 90 < filled[57:63, 70:78].mean()
    everyone = np.ones_like(mask)
    assert np.array_equal(fill_behind(seen, mask, nothing, everyone, nothing), fill_hole(seen, mask, nothing))


def test_two_holes_and_one_at_the_edge(halves):
    seen, mask = holed(halves, np.s_[100:120, 0:30], np.s_[10:30, 100:120])
    filled = fill_hole(seen, mask).astype(int)
    assert np.abs(filled[104:118, 4:26] - 40).mean() < 12 and np.abs(filled[14:26, 104:116] - 200).mean() < 12


def test_a_picture_that_is_all_hole_stays_as_it_is(halves):
    for fill in (fill_hole, fill_smoothly):
        assert np.array_equal(fill(halves, np.ones(halves.shape[:2], np.float32)), halves)


def test_a_large_hole_takes_the_colours_around_it(halves):
    seen, mask = holed(halves, np.s_[20:120, 20:110])
    filled = fill_smoothly(seen, mask).astype(int)
    assert np.abs(filled[40:110, 25:45] - 40).mean() < 12 and np.abs(filled[40:110, 85:105] - 200).mean() < 12
    assert np.abs(filled - halves)[mask == 0].mean() < 1
