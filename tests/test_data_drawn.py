"""Drawn people: the same bytes by seed, labels that lie on the drawn parts, variety."""

import numpy as np
import pytest

from cyberhost_model.data.drawn import drawn_still


@pytest.fixture(scope="module")
def stills():
    return [drawn_still(s) for s in range(8)]


def test_same_seed_same_bytes(stills):
    again = drawn_still(3)
    assert np.array_equal(again.picture_u8, stills[3].picture_u8)
    assert np.array_equal(again.mask, stills[3].mask)
    assert np.array_equal(again.keypoints.hands, stills[3].keypoints.hands)


def test_mask_covers_the_points(stills):
    for s in stills:
        k = s.keypoints
        for points, score in ((k.face, k.face_score), (k.hands, k.hands_score), (k.body[:8], k.body_score[:8])):
            p = points.reshape(-1, 2)[score.reshape(-1) > 0]
            if len(p) == 0:
                continue
            x, y = np.minimum((p * 256).astype(int), 255).T
            assert (s.mask[y, x] > 0.3).mean() > 0.97
