"""Loops: a video whose end leads into its beginning, so that it can be played for ever. Not in the paper.

Before the first frame a lead is sampled, which hears what the last frames hear. The video's end is faded over into the
lead, in latents: these are relative to the reference picture, and the mean of two is a movement between two movements.
The last frame is then the lead's, after which the first one was sampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def close_loop(clips: Iterator[Tensor], lead: int, total: int) -> Iterator[Tensor]:
    """Fade the last `lead` of `total` frames over into the first ones, which are not of the video.

    clips: latents (1, F, C, h, w) of lead + total frames, one clip after the other; clips end where the lead does.
    Yields the clips of the `total` frames.
    """
    before: list[Tensor] = []
    count = 0
    for z in clips:
        start, count = count - lead, count + z.shape[1]
        if start < 0:
            before.append(z)
            continue
        into = torch.arange(start, start + z.shape[1], device=z.device) - (total - lead)  # frames into the fade
        if into[-1] >= 0:
            x = ((into + 1) / (lead + 1)).clamp_min(0).to(z)[None, :, None, None, None]
            led = torch.cat(before, 1)[:, into.clamp_min(0)]
            z = torch.lerp(z, led, x * x * (3 - 2 * x))
        yield z


def open_at_end(shut: Sequence[float]) -> list[float]:
    """Leave out the blink in which a loop would end: its first frame begins with open lids."""
    end = len(shut)
    while end and shut[end - 1] > 0:
        end -= 1
    return [*shut[:end], *[0.0] * (len(shut) - end)]
