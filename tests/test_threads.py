"""The same seed with another number of threads: frames that differ by rounding alone, as docs/user/jobs.md says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cyberhost_model import CyberHost


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_threads_change_no_more_than_rounding(host: CyberHost, portrait_file: Path, tone) -> None:
    made = []
    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        animation = host.animate(portrait_file, tone(seconds=0.2), steps=1, size=256)
        made.append(np.stack(list(animation.frames)))
    np.testing.assert_array_equal(made[0], made[2])
    difference = np.abs(made[0].astype(int) - made[1])
    assert difference.max() <= 2 and (difference > 0).mean() < 1e-3
