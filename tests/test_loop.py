"""Loops: the end of a video leads into its beginning."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cyberhost_model.errors import InputError
from cyberhost_model.media.audio import load_audio
from cyberhost_model.sampler.loop import close_loop, open_at_end


def test_the_end_is_faded_into_the_lead() -> None:
    lead, total, clip = 8, 21, 4
    walk = torch.randn(lead + total, generator=torch.Generator().manual_seed(0)).cumsum(0)
    z = walk[None, :, None, None, None]
    made = torch.cat(list(close_loop(iter(z.split(clip, 1)), lead, total)), 1)[0, :, 0, 0, 0]
    assert len(made) == total
    assert torch.equal(made[: total - lead], walk[lead:total]), "what is before the fade stays"
    far = (walk[-1] - walk[lead]).abs()
    seam, step = (made[-1] - made[0]).abs(), (walk[lead - 1] - walk[lead]).abs()
    assert (seam - step).abs() < 0.05 * far, "the last frame is nearly the one that the first was sampled after"
    assert far > 3 * step, "without the fade it would jump"


def test_a_loop_ends_with_open_lids() -> None:
    assert open_at_end([0.0, 1.0, 0.0, 0.5, 1.0]) == [0.0, 1.0, 0.0, 0.0, 0.0]
    assert open_at_end([0.5, 0.0]) == [0.5, 0.0]


def test_silence_is_a_sound_by_name() -> None:
    sound = load_audio("silence:1.5")
    assert sound.duration == 1.5 and not sound.samples.any() and not sound.warnings and sound.path is None
    with pytest.raises(InputError, match="at most 3600 seconds"):
        load_audio("silence:9999")


def test_loops_that_cannot_be(host, portrait_file) -> None:
    with pytest.raises(InputError, match="a loop must last 0.96 s at least"):
        host.animate(portrait_file, "silence:0.5", loop=True)
    with pytest.raises(InputError, match="gesture"):
        host.animate(portrait_file, "silence:2", loop=True, gestures=True)


@pytest.mark.slow
def test_a_video_without_a_seam(host, portrait_file) -> None:
    animation = host.animate(portrait_file, "silence:0.96", loop=True, size=256, steps=1)
    frames = np.stack(list(animation.frames)).astype(np.float32)
    assert len(frames) == animation.n_frames == 24
    changes = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert np.abs(frames[0] - frames[-1]).mean() <= changes.max()
    assert np.abs(frames[0] - frames[-12]).mean() > changes.max(), "there is movement to come back from"
