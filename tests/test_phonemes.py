"""Phonemes: classes of symbols of two labellers, times."""

import json

import numpy as np
import pytest

from cyberhost_model.errors import TrainingError
from cyberhost_model.speech.phonemes import (
    CLASSES,
    CLOSED,
    SILENCE,
    feature_table,
    phoneme_classes,
    phoneme_track,
    read_phonemes,
    write_phonemes,
)


@pytest.mark.parametrize(
    ("symbol", "classes"),
    [("b", "p"), ("pʰ", "p"), ("ph", "p"), ("t͡ʃ", "tʃ"), ("ts.h", "tʃ"), ("aɪ", "aɪ"), ("oʊ", "oʊ"), ("iou", "iou"),
     ("ɔːɹ", "ɔɹ"), ("ç", "x"), ("ɑ̃", "ɑ"), ("õ", "o"), ("s̪", "s"), ("o-", "ɯ"), ("ʋ", "f"), ("g", "k"), ("ɡ", "k"),
     ("h", "h"), ("", ""), ("ʲ", "")],
)  # fmt: skip
def test_symbols_have_classes(symbol: str, classes: str) -> None:
    assert "".join(CLASSES[i] for i in phoneme_classes(symbol)) == classes


def test_times() -> None:
    """A diphthong is its halves, a pause is silence, a short gap is none; a long span ends where a phoneme would."""
    speech = phoneme_track(3.0, [(0.1, 0.2, "m"), (0.2, 0.4, "aɪ"), (0.44, 0.5, "t"), (0.5, 0.6, ""), (0.8, 2.8, "n")])
    at = [CLASSES[i] for i in speech.at(np.array([0.05, 0.15, 0.25, 0.35, 0.42, 0.47, 0.55, 0.7, 0.9, 1.5, 2.99]))]
    assert at == ["sil", "m", "a", "ɪ", "ɪ", "t", "sil", "sil", "n", "sil", "sil"]
    assert phoneme_track(1.0, []).at(np.array([0.5])).tolist() == [SILENCE]


def test_every_class_says_what_it_asks_of_the_lips() -> None:
    table = feature_table()
    assert table.shape[0] == len(CLASSES) and (table.max(1) > 0).all() and table.min() >= 0 and table.max() == 1
    assert {CLASSES[i] for i in np.flatnonzero(table[:, 2] == 1)} == CLOSED


def test_files_are_read_or_refused(tmp_path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"seconds": 1, "phonemes": [[0, 0.5, "m"]]}))
    assert CLASSES[read_phonemes(path).at(np.array([0.1]))[0]] == "m"
    write_phonemes(path, 1.00049, [(0.5, 0.75, "aɪ")])
    track = read_phonemes(path)
    assert track.seconds == 1.0 and track.starts.tolist() == [0.5, 0.625] and track.ends.tolist() == [0.625, 0.75]
    path.write_text("{}")
    with pytest.raises(TrainingError, match="label the speech again"):
        read_phonemes(path)
