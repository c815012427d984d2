"""Identities by the face: files that show one person share an identity, and so a split."""

import numpy as np

from cyberhost_model.lab.filmed.clip import mean_embedding
from cyberhost_model.lab.filmed.identities import join_faces
from cyberhost_model.lab.filmed.manifest import ACCEPTED, Row, split_of


def _rows(faces: dict[str, np.ndarray | None]) -> list[Row]:
    rows = []
    for name, face in faces.items():
        embedding = None if face is None else (face / np.linalg.norm(face)).tolist()
        rows.append(Row(f"{name}/0", ACCEPTED, name, identity=name, split=split_of(name), embedding=embedding))
    return rows


def test_files_of_one_face_share_an_identity_and_a_split():
    anna, ben, carl = np.random.default_rng(0).standard_normal((3, 512))
    # d is like a, and e like d alone: they are joined by way of d.
    turned = anna + 0.9 * np.random.default_rng(1).standard_normal(512)
    further = turned + 0.9 * np.random.default_rng(2).standard_normal(512)
    rows = _rows({"b": ben, "d": turned, "e": further, "a": anna, "c": carl, "n": None})
    join_faces(rows)
    assert {row.source: row.identity for row in rows} == {"a": "a", "b": "b", "c": "c", "d": "a", "e": "a", "n": "n"}
    assert all(row.split == split_of(row.identity) for row in rows)
    join_faces(_rows({"n": None}))  # nobody is described
    join_faces(rows, {"a": "held_out"})
    assert [row.source for row in rows if row.split == "held_out" and row.identity == "a"] == ["d", "e", "a"]


def test_a_clip_is_described_by_the_frames_that_show_a_face():
    found = np.full((3, 4), np.nan, np.float32)
    assert mean_embedding(found) is None
    found[1], found[2] = (1, 0, 0, 0), (0, 1, 0, 0)
    np.testing.assert_allclose(mean_embedding(found), [0.5**0.5, 0.5**0.5, 0, 0], rtol=1e-6)
