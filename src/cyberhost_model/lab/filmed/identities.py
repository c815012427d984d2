"""Identities by the face: those whose embeddings are alike become one, so that nobody is in both splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cyberhost_model.lab.filmed.manifest import Row, split_of

SAME_FACE = 0.4
"""Cosine of two mean embeddings from which on they are one person's. Rather too low than too high: two people who share
an identity cost nothing, one person with two may be in both splits.
"""


def join_faces(rows: Sequence[Row], splits: Mapping[str, str] | None = None) -> None:
    """Join the identities of rows whose faces are alike, also by way of others; identity and split are changed.

    The joined identity has the name that comes first in the alphabet. An identity without an embedding stays alone.
    """
    found: dict[str, list[list[float]]] = {}
    for row in rows:
        if row.embedding is not None and row.identity is not None:
            found.setdefault(row.identity, []).append(row.embedding)
    if not (names := sorted(found)):
        return
    means = np.array([np.mean(found[name], 0) for name in names], np.float32)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
    first = [*range(len(names))]  # a name -> the first one that it is joined with, by way of others

    def root(i: int) -> int:
        while first[i] != i:
            i = first[i]
        return i

    for i in range(len(names)):  # row by row: all pairs of 100,000 videos would not fit into memory
        for j in np.flatnonzero(means[:i] @ means[i] >= SAME_FACE):
            low, high = sorted((root(int(j)), root(i)))
            first[high] = low
    joined = {name: names[root(i)] for i, name in enumerate(names)}
    for row in rows:
        if row.identity in joined:
            row.identity = joined[row.identity]
            row.split = split_of(row.identity, splits)
