"""The appearance of a drawn person: everything that stays the same while the person moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SKINS = (
    np.array(
        [
            (238, 202, 182),
            (230, 188, 164),
            (219, 173, 144),
            (204, 153, 119),
            (183, 131, 97),
            (152, 102, 72),
            (118, 78, 56),
            (88, 58, 44),
        ],
        np.float32,
    )
    / 255
)
HAIRS = (
    np.array(
        [
            (22, 18, 17),
            (30, 22, 18),
            (48, 32, 24),
            (74, 48, 32),
            (110, 72, 42),
            (160, 118, 70),
            (205, 170, 115),
            (150, 66, 34),
            (130, 128, 126),
            (205, 203, 200),
        ],
        np.float32,
    )
    / 255
)
IRISES = (
    np.array(
        [(50, 30, 18), (70, 42, 22), (98, 66, 34), (96, 104, 58), (84, 118, 132), (98, 132, 160), (110, 120, 122)],
        np.float32,
    )
    / 255
)
HAIR_STYLES = (
    "short",
    "crop",
    "bald",
    "receding",
    "side",
    "bob",
    "long",
    "wavy",
    "bun",
    "ponytail",
    "afro",
    "curly",
    "bangs",
    "scarf",
)
CLOTHES = ("tshirt", "shirt", "polo", "jacket", "dress", "hoodie", "sweater", "vneck", "tank")
PATTERNS = ("plain", "heather", "stripes", "pinstripes", "check", "dots", "floral", "logo")


@dataclass
class Appearance:
    """Shapes in head heights (crown to chin = 1), colours RGB 0..1; `texture` keeps noise fixed to the person."""

    masculine: float
    age: float
    skin: np.ndarray
    lip: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    hair_style: str
    hair_volume: float
    hair_length: float
    parting: float
    face_width: float
    jaw: float
    chin: float
    eye_x: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    brow_height: float
    brow_thickness: float
    brow_arch: float
    nose_width: float
    nose_length: float
    nose_height: float
    mouth_width: float
    mouth_y: float
    lip_upper: float
    lip_lower: float
    blush: float
    freckles: float
    makeup: float
    beard: str
    glasses: str
    glasses_colour: np.ndarray
    earrings: bool
    shoulders: float
    neck_width: float
    build: float
    clothes: str
    sleeve: str
    pattern: str
    cloth: np.ndarray
    cloth2: np.ndarray
    trousers: np.ndarray
    nails: np.ndarray
    watch: bool
    texture: np.ndarray


def _colour(rng: np.random.Generator) -> np.ndarray:
    """Draw a cloth colour: often white, black, navy or grey, else any hue with moderate saturation."""
    if rng.random() < 0.4:
        base = np.array(
            [(0.93, 0.93, 0.92), (0.1, 0.1, 0.11), (0.13, 0.17, 0.3), (0.45, 0.46, 0.48), (0.8, 0.76, 0.68)][
                rng.integers(5)
            ]
        )
        return np.clip(base + rng.normal(0, 0.03, 3), 0.03, 0.97).astype(np.float32)
    h, s, v = rng.random() * 6, rng.uniform(0.15, 0.75), rng.uniform(0.25, 0.92)
    k = (np.array([5, 3, 1]) + h) % 6
    return (v - v * s * np.clip(np.minimum(k, 4 - k), 0, 1)).astype(np.float32)


def sample_appearance(rng: np.random.Generator) -> Appearance:
    """Draw a random person: every age from young adult to old, every origin, both sexes."""
    u, n = rng.uniform, rng.normal
    masc = float(np.clip(n(0.82, 0.12) if rng.random() < 0.5 else n(0.15, 0.12), 0, 1))
    man = masc > 0.5
    age = float(rng.beta(1.2, 1.8))
    tone = u(0, len(SKINS) - 1.001)
    skin = SKINS[int(tone)] * (1 - tone % 1) + SKINS[int(tone) + 1] * (tone % 1)
    skin = np.clip(skin * u(0.94, 1.04) + n(0, 0.012, 3), 0.1, 0.99).astype(np.float32)
    p_hair = np.array([3, 3, 2, 2, 1.5, 1, 0.8, 0.6, 0.0, 0.0])
    if tone > 4:
        p_hair[4:8] *= 0.1
    if age > 0.45:
        p_hair[8:] = (age - 0.4) * 25
    hair = HAIRS[rng.choice(len(HAIRS), p=p_hair / p_hair.sum())] * u(0.85, 1.15)
    styles = np.array(
        [5, 3, 1.5, 1.5, 3, 0.2, 0.4, 0.2, 0.1, 0.1, 0.5, 0.8, 0.4, 0]
        if man
        else [0.6, 0.2, 0.1, 0, 0.8, 2.5, 4, 3, 1.6, 2, 0.7, 1.2, 2, 1.4]
    )
    if tone > 5:
        styles[10] += 2
    style = HAIR_STYLES[rng.choice(len(HAIR_STYLES), p=styles / styles.sum())]
    iris = IRISES[rng.integers(0, 3) if tone > 2.5 else rng.integers(0, len(IRISES))]
    makeup = 0.0 if man else float(max(0, n(0.35, 0.35)))
    lip = skin * np.array([0.88, 0.6, 0.62]) + np.array([0.03, 0.0, 0.01])
    if makeup > 0.4:
        lip = lip * 0.45 + np.array([u(0.55, 0.8), u(0.1, 0.35), u(0.15, 0.4)]) * 0.55
    beard = (
        str(rng.choice(["none", "stubble", "full", "goatee", "moustache"], p=[0.45, 0.25, 0.16, 0.08, 0.06]))
        if man
        else "none"
    )
    clothes = CLOTHES[
        rng.choice(
            len(CLOTHES),
            p=np.array([4, 4, 2, 3, 0 if man else 3, 1, 2, 2, 0.1 if man else 1.5]) / (18.1 if man else 22.5),
        )
    ]
    sleeve = {"jacket": "long", "hoodie": "long", "sweater": "long", "polo": "short", "tank": "none"}.get(
        clothes, str(rng.choice(["long", "short", "half"], p=[0.45, 0.4, 0.15]))
    )
    if clothes == "dress" and rng.random() < 0.3:
        sleeve = "none"
    pattern = str(rng.choice(PATTERNS, p=[0.42, 0.1, 0.12, 0.07, 0.08, 0.06, 0.07, 0.08]))
    if clothes == "jacket" and pattern not in ("plain", "heather", "pinstripes"):
        pattern = "plain"
    return Appearance(
        masculine=masc,
        age=age,
        skin=skin,
        lip=np.clip(lip, 0.05, 0.95).astype(np.float32),
        hair=np.clip(hair, 0.03, 0.95).astype(np.float32),
        iris=np.clip(iris * u(0.8, 1.2), 0, 1).astype(np.float32),
        hair_style=style,
        hair_volume=u(0.8, 1.25),
        hair_length=u(0.5, 1.6),
        parting=u(-0.16, 0.16),
        face_width=0.283 + 0.02 * masc + n(0, 0.008),
        jaw=float(np.clip(0.3 + 0.5 * masc + n(0, 0.15), 0, 1.1)),
        chin=0.075 + 0.03 * masc + n(0, 0.008),
        eye_x=0.142 + n(0, 0.005),
        eye_width=0.128 + n(0, 0.006),
        eye_height=float(np.clip(0.054 - 0.008 * age + n(0, 0.006), 0.038, 0.068)),
        eye_tilt=n(0.05, 0.05),
        brow_height=0.098 - 0.01 * masc + n(0, 0.008),
        brow_thickness=float(np.clip(0.013 + 0.009 * masc + n(0, 0.003), 0.008, 0.03)),
        brow_arch=0.018 + 0.012 * (1 - masc) + n(0, 0.006),
        nose_width=0.076 + 0.006 * masc + 0.003 * (tone - 3) + n(0, 0.005),
        nose_length=0.218 + n(0, 0.01),
        nose_height=u(0.07, 0.105),
        mouth_width=0.113 + 0.006 * masc + n(0, 0.008),
        mouth_y=0.322 + n(0, 0.007),
        lip_upper=float(np.clip(0.031 + 0.002 * (tone - 3) - 0.006 * age + n(0, 0.004), 0.017, 0.046)),
        lip_lower=float(np.clip(0.043 + 0.0025 * (tone - 3) - 0.007 * age + n(0, 0.005), 0.025, 0.062)),
        blush=float(np.clip(n(0.4, 0.25), 0, 1)) * (1.2 if tone < 3 else 0.6),
        freckles=u(0.4, 1) if tone < 2.5 and rng.random() < 0.15 else 0.0,
        makeup=makeup,
        beard=beard,
        glasses=str(rng.choice(["none", "round", "square", "rimless"], p=[0.72, 0.1, 0.13, 0.05])),
        glasses_colour=np.clip(np.array([0.08, 0.07, 0.07]) + (rng.random() < 0.35) * rng.random(3) * 0.6, 0, 1).astype(
            np.float32
        ),
        earrings=(not man) and rng.random() < 0.4,
        shoulders=0.66 + 0.1 * masc + n(0, 0.02),
        neck_width=0.185 + 0.06 * masc + n(0, 0.008),
        build=float(np.clip(n(0.35, 0.3), -0.1, 1.0)),
        clothes=clothes,
        sleeve=sleeve,
        pattern=pattern,
        cloth=_colour(rng),
        cloth2=_colour(rng),
        trousers=_colour(rng) * 0.6,
        nails=_colour(rng) if makeup > 0.5 and rng.random() < 0.5 else skin * np.array([1.02, 0.9, 0.88]),
        watch=rng.random() < 0.2,
        texture=rng.uniform(0, 512, 12).astype(np.float32),
    )
