"""Label filmed sentences whose words are known with phonemes: their own, at the times where a recogniser heard them.

`python scripts/label_words.py WORDS HEARD -o LABELS`: WORDS is a JSON {clip: [[start, end, word], ...]} of GRID's
words, HEARD the folder that scripts/label_phonemes.py wrote. Each phoneme takes the time of the one it was heard
as; one that was not heard keeps its share of its word. Runs in the project's own environment.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from cyberhost_model.speech.phonemes import CLASSES, PhonemeTrack, phoneme_classes, read_phonemes, write_phonemes

VOWELS = set("iɪeɛæaɑʌəɝɔoʊuyøɯ")
PAUSES = ("sil", "sp")
# As the British speakers say them: "o" is not round at its beginning.
WORDS = """
please pliz; at æt; now naʊ; place pleɪs; set sɛt; blue blu; white waɪt; with wɪð; green gɹin; again əgɛn;
by baɪ; in ɪn; red ɹɛd; lay leɪ; bin bɪn; soon sun; zero zɪɹəʊ; one wʌn; two tu; three θɹi; four fɔ;
five faɪv; six sɪks; seven sɛvən; eight eɪt; nine naɪn; a eɪ; b bi; c si; d di; e i; f ɛf; g dʒi; h eɪtʃ;
i aɪ; j dʒeɪ; k keɪ; l ɛl; m ɛm; n ɛn; o əʊ; p pi; q kju; r ɑ; s ɛs; t ti; u ju; v vi; x ɛks; y waɪ; z zɛd;
bine bɪn; ate æt; fe ɛf; twoe tu; nowe naʊ
"""
"""Words and their phonemes, one letter each; the last line are slips of the transcript."""
LEXICON = {word: list(phonemes) for word, phonemes in (entry.split() for entry in WORDS.split(";"))}
VOWEL_LASTS = 1.3  # times a consonant
LEFT_OUT, LIKE, UNLIKE = 0.6, 0.5, 1.3  # costs: no partner; a partner of another class, of the same kind or not
APART = 3.0  # cost of a second between partners
FARTHEST = 0.2  # seconds between partners
FOLLOW = 0.7  # how far what was not heard moves along with its neighbours

Said = tuple[float, float, str]


def known(words: list[tuple[float, float, str]]) -> list[Said]:
    """Phonemes of the words, each with its share of its word's time."""
    said = []
    for start, end, word in words:
        if word in PAUSES:
            continue
        letters = LEXICON[word]
        shares = np.array([VOWEL_LASTS if letter in VOWELS else 1.0 for letter in letters])
        edges = start + np.concatenate([[0], shares.cumsum() / shares.sum()]) * (end - start)
        said += [(float(edges[i]), float(edges[i + 1]), letter) for i, letter in enumerate(letters)]
    return said


def partners(said: list[Said], heard: PhonemeTrack) -> dict[int, int]:
    """The heard phoneme that each said one is, by the cheapest alignment."""
    n, m = len(said), len(heard.starts)
    cost = np.full((n + 1, m + 1), np.inf)
    cost[0], cost[:, 0] = np.arange(m + 1) * LEFT_OUT, np.arange(n + 1) * LEFT_OUT
    step = np.zeros((n + 1, m + 1), int)
    for i in range(1, n + 1):
        start, end, letter = said[i - 1]
        for j in range(1, m + 1):
            other = CLASSES[heard.classes[j - 1]]
            apart = abs(start + end - heard.starts[j - 1] - heard.ends[j - 1]) / 2
            differ = (
                0.0
                if CLASSES[phoneme_classes(letter)[0]] == other
                else LIKE
                if (letter in VOWELS) == (other in VOWELS)
                else UNLIKE
            )
            pair = differ + APART * apart if apart < FARTHEST else np.inf
            ways = cost[i - 1, j - 1] + pair, cost[i - 1, j] + LEFT_OUT, cost[i, j - 1] + LEFT_OUT
            step[i, j] = int(np.argmin(ways))
            cost[i, j] = ways[step[i, j]]
    found, i, j = {}, n, m
    while i and j:
        if step[i, j] == 0:
            found[i - 1] = j - 1
        i, j = i - (step[i, j] < 2), j - (step[i, j] != 1)
    return found


def aligned(words: list[tuple[float, float, str]], heard: PhonemeTrack) -> list[Said]:
    """The phonemes of the words at the times where they were heard."""
    said = known(words)
    found = partners(said, heard)
    starts, ends = np.array([s for s, _, _ in said]), np.array([e for _, e, _ in said])
    moved = starts.copy()
    if len(found) > 1:
        index = np.array(sorted(found))
        shift = np.array([heard.starts[found[k]] for k in index]) - starts[index]
        moved = np.maximum.accumulate(starts + FOLLOW * np.interp(np.arange(len(said)), index, shift))
    until = np.append(moved[1:], ends[-1])
    paused = np.append(starts[1:] - ends[:-1] > 0.03, False)  # the speaker stops between two words
    until = np.where(paused, np.minimum(until, np.maximum(ends, moved + 0.03)), until)
    rows = zip(moved, np.maximum(until, moved + 0.01), said, strict=True)
    return [(round(float(a), 3), round(float(b), 3), letter) for a, b, (_, _, letter) in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("words", type=Path, help="JSON of the words of each clip")
    parser.add_argument("heard", type=Path, help="folder of labels by scripts/label_phonemes.py")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of labels")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for clip, words in json.loads(args.words.read_text()).items():
        if not (args.heard / f"{clip}.json").exists():
            print(f"{clip}: not heard yet, left out")
            continue
        heard = read_phonemes(args.heard / f"{clip}.json")
        write_phonemes(args.out / f"{clip}.json", heard.seconds, aligned(words, heard))


if __name__ == "__main__":
    main()
