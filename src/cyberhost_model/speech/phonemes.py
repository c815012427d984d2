"""Phonemes: classes that hold over languages, chosen by what lips and tongue do, and the times at which they are said.

Voiced and voiceless partners share a class (p and b look alike), diphthongs and affricates are their two halves.
Labels come as JSON files of scripts/label_phonemes.py or scripts/speak_languages.py, in IPA.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from cyberhost_model.errors import TrainingError
from cyberhost_model.media.files import written_whole
from cyberhost_model.reading import Unreadable, build, one_line, read_object

LONGEST_RECORDING = 1e6
"""Seconds of a labelled recording, eleven days."""
Span = tuple[float, float, str]
"""(start, end, phoneme): seconds, and a symbol of hama or espeak-ng."""

SYMBOLS = {
    "sil": "",
    "p": "pbɓʙ",
    "m": "mɱ",
    "β": "βɸ",
    "f": "fvʋ",
    "t": "tdʈɖɗ",
    "n": "nɲɳɴ",
    "θ": "θð",
    "s": "sz",
    "ʃ": "ʃʒʂʐɕʑ",
    "k": "kgɡqcɟ",
    "ŋ": "ŋ",
    "x": "xɣχʁʀçʝ",
    "h": "hɦħʕʔ",
    "l": "lɫɭʎɮ",
    "r": "rɾɽ",
    "ɹ": "ɹɻɰ",
    "j": "j",
    "w": "w",
    "i": "i",
    "ɪ": "ɪᵻ",
    "e": "e",
    "ɛ": "ɛ",
    "æ": "æ",
    "a": "a",
    "ɑ": "ɑ",
    "ʌ": "ʌɐ",
    "ə": "əɘᵊ",
    "ɝ": "ɝɚɜ",
    "ɔ": "ɔɒ",
    "o": "o",
    "ʊ": "ʊ",
    "u": "u",
    "y": "yʏʉɥ",
    "ø": "øœɵ",
    "ɯ": "ɯɨɤ",
}
"""Class: the IPA letters that belong to it."""
CLASSES = tuple(SYMBOLS)
SILENCE = 0
_CLASS_OF = {letter: number for number, letters in enumerate(SYMBOLS.values()) for letter in letters}
_SPELT = {"s.": "ʂ", "z.": "ʐ", "t.": "ʈ", "r.": "ɽ", "o-": "ɤ", "e-": "ə", "onɡ": "oŋ", "c": "k"}
"""What espeak-ng writes in its own way."""

CLOSED, ON_TEETH = frozenset("pm"), frozenset("f")
ROUNDED, OPEN = frozenset(("u", "ʊ", "o", "ɔ", "w", "y", "ø")), frozenset(("ɑ", "æ", "a", "ʌ"))
"""Classes whose lips meet, touch the upper teeth, are rounded, are far apart."""
FEATURES = ("silent", "vowel", "closed", "teeth", "rounded", "open", "spread", "together", "behind")
"""What a class asks of lips and jaw: what stands in for a phoneme that the filmed speaker never said."""
_FEATURES = {
    "sil": "silent", "p": "closed", "m": "closed", "β": "closed/2 rounded/4", "f": "teeth", "t": "together/2",
    "n": "together/2", "θ": "together/2", "s": "together", "ʃ": "together rounded/2", "k": "behind", "ŋ": "behind",
    "x": "behind", "h": "behind/2 open/4", "l": "together/4 open/4", "r": "together/4",
    "ɹ": "rounded/2 together/4", "j": "spread together/4", "w": "rounded", "i": "vowel spread",
    "ɪ": "vowel spread/2 open/4", "e": "vowel spread open/2", "ɛ": "vowel spread/2 open/1.6",
    "æ": "vowel spread/2 open/1.2", "a": "vowel open", "ɑ": "vowel open", "ʌ": "vowel open/1.4",
    "ə": "vowel open/2", "ɝ": "vowel open/2 rounded/3", "ɔ": "vowel open/1.4 rounded/1.4",
    "o": "vowel open/2 rounded", "ʊ": "vowel rounded/1.4 open/4", "u": "vowel rounded", "y": "vowel rounded",
    "ø": "vowel rounded open/2", "ɯ": "vowel open/4 behind/2",
}  # fmt: skip
BRIDGE = 0.06  # seconds: a shorter gap belongs to the phoneme before it
LONGEST = 0.24
"""Seconds a phoneme lasts at most: a recogniser's span goes on through the pause behind it."""


@cache
def phoneme_classes(symbol: str) -> tuple[int, ...]:
    """Split an IPA symbol into numbers in CLASSES, in order: "aɪ" is a and ɪ, "tʃ" t and ʃ, "pʰ" p.

    Empty for a pause and for a mere modifier.
    """
    for theirs, ours in _SPELT.items():
        symbol = symbol.replace(theirs, ours)
    plain = "".join(c if c in _CLASS_OF else unicodedata.normalize("NFD", c) for c in symbol)
    letters = [c for c in plain if c in _CLASS_OF]
    if len(letters) > 1 and letters[-1] == "h" and letters[0] in "ptkbdgɡcɟsʂɕʈ":
        letters.pop()  # aspiration
    return tuple(_CLASS_OF[c] for c in letters)


def feature_table() -> np.ndarray:
    """Build the table of what each class asks of lips and jaw: (classes, features) float32, 0..1."""
    table = np.zeros((len(CLASSES), len(FEATURES)), np.float32)
    for name, words in _FEATURES.items():
        for word in words.split():
            feature, _, part = word.partition("/")
            table[CLASSES.index(name), FEATURES.index(feature)] = 1 / float(part or 1)
    return table


@dataclass(frozen=True)
class PhonemeTrack:
    """The N phonemes of a recording, by start, not overlapping; what lies between them is silence."""

    seconds: float
    """Length of the recording."""
    starts: np.ndarray
    """float64 (N,), seconds."""
    ends: np.ndarray
    """float64 (N,), seconds."""
    classes: np.ndarray
    """int64 (N,), numbers in CLASSES."""

    def at(self, times: np.ndarray) -> np.ndarray:
        """Look up the class at each of `times` (T,), seconds: int64 (T,)."""
        index = np.searchsorted(self.starts, times, "right") - 1
        inside = (index >= 0) & (times < self.ends[index.clip(0)]) if len(self.starts) else np.zeros(len(times), bool)
        return np.where(inside, self.classes[index.clip(0)] if len(self.starts) else SILENCE, SILENCE).astype(np.int64)


def phoneme_track(seconds: float, spans: Sequence[Span]) -> PhonemeTrack:
    """Turn labelled spans into classes with times.

    Gaps of at most BRIDGE seconds belong to the phoneme before them; a modifier lengthens the phoneme it follows.
    """
    rows: list[list[float]] = []
    for start, end, symbol in spans:
        numbers = phoneme_classes(symbol)
        if not numbers:
            if rows and symbol and start - rows[-1][1] < 1e-6:
                rows[-1][1] = end
            continue
        if rows and 0 < start - rows[-1][1] <= BRIDGE:
            rows[-1][1] = start
        end = min(end, start + LONGEST * len(numbers))
        step = (end - start) / len(numbers)
        rows += [[start + i * step, start + (i + 1) * step, number] for i, number in enumerate(numbers)]
    table = np.array(rows, np.float64).reshape(-1, 3)
    return PhonemeTrack(seconds, table[:, 0], table[:, 1], table[:, 2].astype(np.int64))


@dataclass(frozen=True)
class _PhonemeFile:
    """Content of a file of the labelling scripts: seconds of the recording, and its phonemes in order."""

    seconds: float
    phonemes: list[tuple[float, float, str]]

    def __post_init__(self) -> None:
        times = [time for start, end, _ in self.phonemes for time in (start, end)]
        if not 0 < self.seconds < LONGEST_RECORDING or any(not 0 <= time <= LONGEST_RECORDING for time in times):
            raise ValueError(f"its times must be seconds within 0..{LONGEST_RECORDING:g}")


def read_phonemes(path: Path) -> PhonemeTrack:
    """Read a JSON file of the labelling scripts. Raises TrainingError."""
    try:
        data = build(_PhonemeFile, read_object(path))
    except (OSError, Unreadable) as error:
        raise TrainingError(
            f"{path}: no phonemes of scripts/label_phonemes.py ({one_line(error)}); label the speech again"
        ) from error
    return phoneme_track(data.seconds, data.phonemes)


def write_phonemes(path: Path, seconds: float, spans: Sequence[Span]) -> None:
    """Write the file that `read_phonemes` reads, whole or not at all. Raises OutputError."""
    found = {"seconds": round(seconds, 3), "phonemes": spans}
    with written_whole(path) as part:
        part.write_text(json.dumps(found, ensure_ascii=False) + "\n", encoding="utf-8")
