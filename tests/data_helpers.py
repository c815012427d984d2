"""Small training material made on the spot: drawn people and a synthetic voice."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image
from safetensors.torch import save_file

from cyberhost_model.config import preset
from cyberhost_model.lab.filmed.manifest import held_out
from cyberhost_model.lab.synthetic.clips import ClipGenerator
from cyberhost_model.lab.synthetic.drawn import drawn_still
from cyberhost_model.lab.synthetic.sources import People, SpeechLibrary
from cyberhost_model.lab.training.coded import POINTS, list_clips
from cyberhost_model.perception.keypoints import _MESH478, _POSE33, Keypoints
from cyberhost_model.runtime.prepare import Reference

RATE = 16000


def files_of_before(clips: Path, folder: Path) -> list[Path]:
    """Write encoded clips as earlier versions did: a file for each, with the windows of its frames."""
    files = []
    for clip in list_clips(clips):
        saved, width = clip.open(), preset("tiny").audio.tokens
        shown, _ = saved.reference(0)
        names = [f"{of}.{name}" for of in ("frame", "reference") for name in POINTS]
        kept = {name: saved.rows(name) for name in ("z", "clarity", "heard", "sound", *names)}
        audio = saved.windows(0, saved.frames, width).half()
        files.append(folder / clip.file.parent.name / f"{clip.name}.safetensors")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        save_file({**kept, **shown, "audio": audio, "reference": torch.zeros(8, 8, 3, dtype=torch.uint8)}, files[-1])
    return files


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """Syllables of a buzzing voice with pauses: float32 at 16 kHz."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * 120 * k * t + rng.uniform(0, 6)) / k for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * t), 0, 1) * (np.sin(2 * np.pi * 0.4 * t + 1) > -0.5)
    return (0.15 * buzz * syllables).astype(np.float32)


def speech_folder(folder: Path) -> Path:
    """Nine seconds each of four speakers."""
    folder.mkdir(exist_ok=True)
    for speaker in ("1", "2", "3", "30"):
        soundfile.write(folder / f"{speaker}-0.flac", voice(9, int(speaker)), RATE)
    return folder


def small_synth(folder: Path, frames: int = 16, size: tuple[int, int] = (128, 128)) -> ClipGenerator:
    """Drawn people of 128 x 128 who speak."""
    return ClipGenerator(
        People([], drawn=1.0), SpeechLibrary([speech_folder(folder)]), seed=3, frames=frames, sizes=(size,)
    )


TONES = {"m": (150, 0.001, 0.28), "a": (700, 0.06, 0.29), "u": (350, 0.02, 0.24)}
"""Phoneme -> pitch in Hz, gap and width of the lips in face heights."""


def _utter(path: Path, seconds: float, rng: np.random.Generator, filmed: bool) -> None:
    """A sentence of three phonemes with silence around it, and its labels beside it."""
    t = np.arange(round(seconds * RATE)) / RATE
    samples, gap, width = np.zeros(len(t)), np.full(round(seconds * 25), 0.001), np.full(round(seconds * 25), 0.28)
    spans = []
    for at in np.arange(0.6, seconds - 0.6, 0.2):
        name = str(rng.choice(list(TONES)))
        hertz, *lips = TONES[name]
        now, frames = slice(round(at * RATE), round((at + 0.2) * RATE)), slice(round(at * 25), round((at + 0.2) * 25))
        samples[now] = 0.1 * np.sign(np.sin(2 * np.pi * hertz * t[now]))
        gap[frames], width[frames] = lips
        spans.append((at, at + 0.2, name))
    soundfile.write(path, samples.astype(np.float32), RATE)
    path.with_suffix(".json").write_text(json.dumps({"seconds": seconds, "phonemes": spans}))
    if filmed:
        same = np.full_like(gap, 0.05)
        np.savez(path.with_suffix(".npz"), gap=gap, width=width, upper_lip=same, lower_lip=same, fps=25.0)


def labelled_folders(folder: Path) -> tuple[Path, Path]:
    """(speech, filmed), each with its labels in it.

    Two speakers who train and one who is held out; the sounds of filmed clips, some of them held out.
    """
    rng, speech, filmed = np.random.default_rng(0), folder / "speech", folder / "filmed"
    speech.mkdir(parents=True)
    filmed.mkdir()
    train_names = [str(n) for n in range(100) if not held_out(str(n))][:2]
    for name in (*train_names, next(str(n) for n in range(100) if held_out(str(n)))):
        _utter(speech / f"{name}-1.wav", 6.0, rng, False)
    for i in range(12):
        _utter(filmed / f"clip{i}.wav", 3.0, rng, True)
    assert any(held_out(f"clip{i}") for i in range(12))
    return speech, filmed


def audio_stage_arguments(folder: Path) -> list[str]:
    """Options of `cyberhost train` for stage audio."""
    speech, filmed = (str(f) for f in labelled_folders(folder))
    return ["--stage", "audio", "--speech", speech, "--filmed", filmed, "--labels", filmed]


def stills_folder(folder: Path, people: int = 2) -> Path:
    """Drawn people as a folder of labelled pictures, none of them held out of training."""
    folder.mkdir(parents=True)
    labels = {}
    for number in range(100):
        if len(labels) == people:
            break
        name, still = f"{number}.png", drawn_still(number)
        if held_out(f"{folder.name}/{number}"):
            continue
        face, pose, k = np.zeros((478, 2)), np.zeros((33, 3)), still.keypoints
        face[list(_MESH478)] = k.face
        for body, mediapipe in enumerate(_POSE33):
            if mediapipe >= 0:
                pose[mediapipe] = [*k.body[body], k.body_score[body]]
        hands = [
            hand.tolist() if score.max() > 0.3 else None for hand, score in zip(k.hands, k.hands_score, strict=True)
        ]
        Image.fromarray(still.picture_u8).save(folder / name)
        labels[name] = {
            "face": face.tolist(),
            "pose33": pose.tolist(),
            "left_hand21": hands[0],
            "right_hand21": hands[1],
        }
    (folder / "keypoints.json").write_text(json.dumps(labels))
    return folder


def open_hands(points: Keypoints) -> Keypoints:
    """The same person with two open hands at the picture's lower corners, surely seen."""
    fingers = np.linspace(-0.6, 0.6, 5)[:, None]
    along = np.linspace(0.05, 0.1, 4)
    tips = np.stack([np.sin(fingers) * along, -np.cos(fingers) * along], -1).reshape(20, 2)
    hand = np.concatenate([np.zeros((1, 2)), tips])
    hands = np.stack([hand + [0.85, 0.92], hand + [0.15, 0.92]]).astype(np.float32)
    return replace(points, hands=hands, hands_score=np.ones((2, 21), np.float32))


def with_hands(reference: Reference) -> Reference:
    """The reference with `open_hands`, and with arms that are not seen."""

    def seen(points: Keypoints) -> Keypoints:
        return replace(open_hands(points), body_score=points.body_score * ~np.isin(np.arange(18), (3, 4, 6, 7)))

    return replace(reference, keypoints=seen(reference.keypoints), picture_keypoints=seen(reference.picture_keypoints))
