"""Measure what the speech encoder hears: phonemes, lips, articulation, rest.

`python scripts/speech_measure.py ENCODER --speech DIR --filmed DIR --labels DIR` prints JSON about held-out speakers
(the first folder of speech must be English, labelled by scripts/label_phonemes.py), languages and filmed sentences.
`ENCODER` is a folder of a speech encoder, a run of stage audio, or "labels": the lips that the encoder is taught,
what it could reach at best.

Articulation is measured as people's is (`lab.evaluation.articulation`). Filmed people: closure (lowest gap at m b p)
-0.85, rounding (lowest width at u o w) -0.76, opening (highest gap at open vowels) 0.42, correlation of gap and
loudness -0.07.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cyberhost_model.lab.evaluation.articulation import (
    EFFECTS,
    LipTrack,
    frame_levels,
    loudness_correlation,
    measure_effect,
    sound_power,
)
from cyberhost_model.lab.synthetic.labelled_speech import LabelledSpeech, Recording, labelled_speech
from cyberhost_model.lab.synthetic.speech_augment import coloured_noise
from cyberhost_model.lab.synthetic.speech_surroundings import hum, music
from cyberhost_model.lab.training.assemble import trained_speech
from cyberhost_model.lab.training.stages.audio import class_recall, evaluate
from cyberhost_model.speech.lip_head import GAP, WIDTH
from cyberhost_model.speech.wav2vec2 import Wav2Vec2Encoder

FPS, RATE = 25, 16_000
STILL = 1e-6  # of a gap without a unit

Tell = Callable[[Recording], np.ndarray]
"""Recording -> (T, 2): gap and width, 25 frames a second."""


def track(recording: Recording, tell: Tell) -> LipTrack:
    curves = tell(recording)
    spans = [
        (start, end, symbol.rstrip("ːʰ")) for start, end, symbol in json.loads(recording.labels.read_text())["phonemes"]
    ]
    return LipTrack(*curves.T, frame_levels(sound_power(recording.samples), len(curves), FPS), spans, FPS)


def articulation(tracks: list[LipTrack]) -> dict[str, float]:
    """The effects, the correlation of gap and loudness (mean over recordings), and the gap's deviation."""
    out = {name: measure_effect(tracks, effect).value for name, effect in EFFECTS.items()}
    loudness = np.array([loudness_correlation(t, STILL) for t in tracks])
    out["loudness"] = float(np.nanmean(loudness)) if np.isfinite(loudness).any() else float("nan")
    out["gap's deviation"] = float(np.mean([t.gap.std() for t in tracks]))
    return out


def rest(encoder: Wav2Vec2Encoder) -> dict[str, list[float]]:
    """Largest gap, and deviation of gap and of width, in 20 s without speech."""
    rng, out = np.random.default_rng(1), {}
    sounds = {"silence": np.zeros(20 * RATE, np.float32)}
    for name, make in (("noise", coloured_noise), ("hum", hum), ("music", music)):
        for level in (-50, -20):
            sounds[f"{name} at {level} dBFS"] = make(20 * RATE, rng) * np.float32(10 ** (level / 20))
    for name, sound in sounds.items():
        lips = encoder.predict_lips(sound.clip(-1, 1))
        out[name] = [float(lips.gap.max()), float(lips.gap.std()), float(lips.width.std())]
    return out


def by_language(material: LabelledSpeech) -> dict[str, LabelledSpeech]:
    """The recordings of synthetic folders by the language in their names (voice-language-sentence)."""
    found: dict[str, list[Recording]] = defaultdict(list)
    for folder in material.folders[1:-1]:
        for recording in folder:
            found["-".join(recording.path.stem.split("-")[1:-1])].append(recording)
    return {name: LabelledSpeech([recordings]) for name, recordings in sorted(found.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("encoder", help='folder of an encoder, run of stage audio, or "labels"')
    for name in ("--speech", "--filmed", "--labels"):
        parser.add_argument(name, action="append", default=[], help="folder; may be repeated")
    args = parser.parse_args()
    material = labelled_speech(args.speech, args.filmed, args.labels, held_out=True)
    encoder = None
    if args.encoder != "labels":
        is_encoder = (Path(args.encoder) / "model.safetensors").is_file()
        encoder = Wav2Vec2Encoder.from_pretrained(args.encoder) if is_encoder else trained_speech(args.encoder)

    def tell(recording: Recording) -> np.ndarray:
        if encoder is None:
            times = (np.arange(len(recording.samples) * FPS // RATE) + 0.5) / FPS
            return recording.lip_map.lips(recording.spoken, times)[:, [GAP, WIDTH]]
        if encoder.lip_head is None:
            heard = encoder.predict_motion(recording.samples)
            return np.stack([heard.opening, heard.width], 1)
        lips = encoder.predict_lips(recording.samples, FPS)
        return np.stack([lips.gap, lips.width], 1)

    out: dict[str, object] = {"English": articulation([track(r, tell) for r in material.folders[0]])}
    recordings = material.folders[-1]
    filmed = [track(r, tell) for r in recordings]
    seen = np.concatenate(
        [r.filmed.at((np.arange(len(t.gap)) + 0.5) / FPS) for r, t in zip(recordings, filmed, strict=True) if r.filmed]
    )
    known = np.isfinite(seen).all(1)
    told = np.concatenate([np.stack([t.gap, t.width], 1) for t in filmed])
    out["filmed"] = {**articulation(filmed), "gap, true": float(np.corrcoef(told[known, 0], seen[known, GAP])[0, 1]),
                     "width, true": float(np.corrcoef(told[known, 1], seen[known, WIDTH])[0, 1])}  # fmt: skip
    languages = by_language(material)
    out["languages"] = {
        name: articulation([track(r, tell) for r in part.recordings]) for name, part in languages.items()
    }
    if encoder is not None and encoder.lip_head is not None:
        out["English heard"] = evaluate(encoder, LabelledSpeech(material.folders[:1]))
        out["filmed heard"] = evaluate(encoder, LabelledSpeech(material.folders[-1:]))
        out["languages heard"] = {name: evaluate(encoder, part) for name, part in languages.items()}
        out["English classes"] = class_recall(encoder, LabelledSpeech(material.folders[:1]))
        out["rest"] = rest(encoder)
    print(json.dumps(out, indent=1, ensure_ascii=False, default=float))


if __name__ == "__main__":
    main()
