"""The code by which waves carry the number of a run: 32 bits and a check of 16, as six bytes.

Each byte is one of 256 patterns of signs over a sixth of the waves. A reader weighs every pattern of every byte, takes
the likeliest ones of the first four together, and asks of each number whether its check is as likely: whole numbers
compete, so that a byte that is hardly there is told by the others. The check is CRC-16 (CCITT), as `binascii` has it.
"""

from __future__ import annotations

import binascii
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

BYTES = 6
FALSE_NUMBER = 1e-4
"""Chance that a number is read where there is none, at most."""
LEAD = 2.0
"""Standard deviations by which the likeliest number must be ahead of the next."""
_LIKELY = 16  # values of each byte that are tried together


class Reading(NamedTuple):
    """What was read."""

    score: float
    """Agreement with the likeliest number's pattern, in standard deviations of waves that carry none."""
    run: int | None
    """The number; None where it is not sure."""


def number_of(facts: Mapping[str, str]) -> int:
    """Make the number of a run, of 32 bits, from what its frames depend on: the same run has the same number."""
    text = json.dumps(dict(facts), sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def name_of(run: int) -> str:
    """Write the number of a run as it stands in tags and records, such as "0c3fa91e"."""
    return f"{run:08x}"


@functools.lru_cache(maxsize=1)
def _book(waves: int) -> tuple[np.ndarray, np.ndarray]:
    """Make the code for so many waves -> the waves of each byte (6, n), and the signs of its values (6, 256, n)."""
    each = waves // BYTES
    digits = hashlib.shake_256(b"cyberhost-run order").digest(4 * waves)
    order = np.argsort(np.frombuffer(digits, "<u4"), kind="stable")[: BYTES * each].reshape(BYTES, each)
    count = BYTES * 256 * each
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(b"cyberhost-run signs").digest(count // 8), np.uint8))
    return order, (1 - 2 * bits.astype(np.int8)).reshape(BYTES, 256, each)


def signs(run: int, waves: int) -> np.ndarray:
    """Make the signs of the waves that carry `run`, a number of 32 bits -> 1 or -1 for each wave, int8 (waves,)."""
    body = run.to_bytes(4, "big")
    order, book = _book(waves)
    made = np.ones(waves, np.int8)
    for place, byte in enumerate(body + binascii.crc_hqx(body, 0).to_bytes(2, "big")):
        made[order[place]] = book[place, byte]
    return made


@functools.lru_cache(maxsize=1)
def _checks() -> np.ndarray:
    """Make the check of every value of each of the four bytes; the check of a number is their sum modulo 2 (4, 256)."""
    return np.array(
        [[binascii.crc_hqx(bytes(i == k and value for i in range(4)), 0) for value in range(256)] for k in range(4)]
    )


def read(agreement: np.ndarray) -> Reading:
    """Read the number from the agreement of each wave with the key, scaled so that noise sums up to a deviation of 1.

    Of waves that carry nothing, each of the 2^32 numbers exceeds a score t with a chance of at most exp(-t^2 / 2)
    (see `watermark.detect`); a number is sure where that bound over all of them is below `FALSE_NUMBER`.
    """
    order, book = _book(len(agreement))
    scores = np.stack([book[place] @ agreement[order[place]] for place in range(BYTES)])
    likely = np.argsort(-scores[:4], axis=1)[:, :_LIKELY]
    values = np.stack([part.ravel() for part in np.meshgrid(*likely, indexing="ij")])  # (4, numbers)
    check = np.bitwise_xor.reduce(_checks()[np.arange(4)[:, None], values])
    total = scores[np.arange(4)[:, None], values].sum(0) + scores[4][check >> 8] + scores[5][check & 255]
    second, best = np.argsort(total)[-2:]
    score = float(total[best])
    sure = 2.0**32 * np.exp(-(max(score, 0.0) ** 2) / 2) <= FALSE_NUMBER and score - total[second] >= LEAD
    return Reading(score, int.from_bytes(bytes(values[:, best].tolist()), "big") if sure else None)
