"""Hair and headscarves: matte and strands as functions of the face's plane, so that they turn with the head."""

from __future__ import annotations

import numpy as np

from cyberhost_model.lab.synthetic.drawn_appearance import Appearance
from cyberhost_model.lab.synthetic.drawn_paint import Light, bell, blur, normals, sample, smoothstep

_LONG = ("long", "wavy", "bob", "bangs", "ponytail")


def hair_box(person: Appearance, back: bool) -> tuple[float, float, float, float]:
    """Find the window of the face's plane that the hair may fill; `back`: its part behind the neck."""
    wide = 0.62 if person.hair_style in ("afro", "curly", "long", "wavy", "scarf", "bangs") else 0.48
    top = {"afro": -0.95, "bun": -0.92, "curly": -0.75}.get(person.hair_style, -0.68)
    if person.hair_style == "bald":
        return (-wide, top, wide, 0.0)
    return (-wide, top, wide, _length(person) + 0.2 if back or _forward(person) else 0.62)


def _forward(person: Appearance) -> bool:
    """Tell whether the ends lie in front of the shoulders rather than behind them."""
    return person.hair_style == "scarf" or (person.hair_style in ("long", "wavy", "bangs") and person.texture[11] > 256)


def _length(person: Appearance) -> float:
    """Compute how far down the back hair reaches, in the face's plane."""
    return {
        "long": 0.75 + 0.5 * person.hair_length,
        "wavy": 0.7 + 0.45 * person.hair_length,
        "bob": 0.42 + 0.08 * person.hair_length,
        "bangs": 0.5 + 0.5 * person.hair_length,
        "ponytail": 0.6,
        "curly": 0.3,
        "scarf": 0.95,
    }.get(person.hair_style, 0.25)


def _strands(person: Appearance, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Compute a strand texture of mean 0, combed away from the parting (up from the brow for short hair)."""
    t = person.texture
    style = person.hair_style
    if style in ("afro", "curly"):
        return 0.75 * sample(
            "curl", u * (520 if style == "afro" else 300) + t[3], v * (520 if style == "afro" else 300) + t[4]
        ) + 0.4 * sample("cloud", u * 300, v * 300)
    if style in ("short", "crop", "receding"):
        du, dv = u - 0.3 * person.parting, v - 0.12
    elif style == "bun":
        du, dv = u, v + 0.72
    else:
        du, dv = u - person.parting, v + 0.58
    r = np.hypot(du, dv)
    phi = np.arctan2(du, -dv if style in ("short", "crop", "receding") else dv)
    wave = 0.0
    if style == "wavy":
        wave = 0.05 * np.sin(v * 22 + 3 * np.sin(u * 6 + t[5])) * smoothstep(v, -0.3, 0.3)
    s = (phi + wave + 0.02 * np.sin(r * 14 + t[6])) * 230
    return sample("strand", s + t[7], r * 200 + t[8])


def _outer(person: Appearance, u: np.ndarray, v: np.ndarray, back: bool) -> np.ndarray:
    """Estimate the distance (head heights) inside the hair's outer edge; negative outside."""
    style, vol = person.hair_style, person.hair_volume
    w, grow = (
        person.face_width + 0.025,
        {
            "crop": 0.012,
            "short": 0.035,
            "receding": 0.018,
            "afro": 0.2 * vol,
            "curly": 0.11 * vol,
            "bun": 0.015,
            "ponytail": 0.02,
            "scarf": 0.055,
        }.get(style, 0.045)
        * (1 if style in ("crop", "bun") else vol),
    )
    if style == "afro":
        return (0.43 + grow) - np.hypot(u / 0.95, v + 0.17)
    vc, top = -0.1, 0.4 + grow * 1.15
    half = w + grow * (0.75 if style in ("short", "crop") else 1.0)
    y = np.minimum(v - vc, 0) / top
    upper = half * np.sqrt(np.maximum(1 - y * y, 0))
    edge = np.where(v < vc, upper, half)
    if style in _LONG or style in ("curly", "scarf"):
        end = _length(person)
        t = np.clip((v - vc) / (end - vc), 0, 1)
        flare = {
            "long": 0.06,
            "wavy": 0.1,
            "bob": 0.05,
            "bangs": 0.05,
            "ponytail": -0.15,
            "curly": 0.07,
            "scarf": 0.05,
        }[style] * vol
        edge = edge + np.where(
            v > vc, flare * np.sin(np.minimum(t, 0.9) * np.pi * 0.62) - 0.35 * np.maximum(t - 0.82, 0), 0
        )
        dist = np.minimum(edge - np.abs(u), (end - v - (0.7 if style == "scarf" else 0.0) * u * u) * 0.8)
    else:
        dist = np.minimum(edge - np.abs(u) - np.maximum(v + 0.02, 0) * 0.22, (0.16 if not back else 0.3) - v)
    dist = np.where(v < vc, np.minimum(dist, (1 - np.hypot(u / half, y)) * min(half, top)), dist)
    if style == "bun":
        dist = np.maximum(dist, 0.135 * vol - np.hypot(u, v + 0.6))
    return dist


def _face_hole(person: Appearance, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Estimate the distance inside the opening that the front hair leaves for the face; negative under hair."""
    style, w, p = person.hair_style, person.face_width, person.parting
    if style == "scarf":
        return (1 - np.hypot(u / (w * 0.97), np.where(v < 0.08, (v - 0.08) / 0.37, (v - 0.08) / 0.44))) * w
    top = {
        "short": -0.315,
        "crop": -0.3,
        "receding": -0.41,
        "bald": -0.6,
        "side": -0.3,
        "bangs": -0.15,
        "bob": -0.29,
        "afro": -0.3,
        "curly": -0.28,
    }.get(style, -0.32)
    a, drop, k = w * 0.86, 0.13, 4.0
    if style == "bangs":
        a, drop, k = w * 0.9, 0.1, 7.0
    elif style == "receding":
        a, drop, k = w * 0.8, 0.2, 3.0
    line = top + drop * np.abs(u / a) ** k
    if style in ("side", "long", "wavy", "bob", "ponytail"):  # swept from the parting to both sides
        line = line + 0.16 * smoothstep(np.abs(u - p), 0.02, 0.28) - 0.05
        if style in ("long", "wavy", "bob"):
            line = line + 0.5 * smoothstep(np.abs(u), w * 0.82, w * 1.02)
    if style == "receding":
        line = line - 0.07 * bell(np.abs(u), 0.13, 0.06)
    if style == "bald":
        line = -0.16 + 3.2 * (np.abs(u) - w * 0.99)  # a rim above the ears
        return np.maximum(v - line, -v - 0.12)
    if style in ("short", "crop", "receding", "side", "bun", "ponytail", "afro"):
        ends = 0.07 + (0.04 if person.masculine > 0.5 else -0.02)  # sideburns end
        return np.maximum(v - line, v - ends)
    return v - line


def has_back(person: Appearance) -> bool:
    """Tell whether hair shows behind the neck."""
    return person.hair_style in (*_LONG, "afro", "curly", "scarf")


def hair_matte(
    person: Appearance, u: np.ndarray, v: np.ndarray, back: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute (matte, strands, depth inside the edge) at plane coordinates.

    `back`: the hair behind head and neck; else the front hair, over the face.
    """
    s = (
        _strands(person, u, v)
        if person.hair_style != "scarf"
        else 0.35 * sample("cloud", (u + v * 0.2) * 150 + person.texture[3], (v - np.abs(u)) * 60)
    )
    if person.hair_style == "bald" and person.age < 0.3:
        return np.zeros_like(u), s, np.zeros_like(u)
    rough = {"afro": 0.02, "curly": 0.022, "scarf": 0.0, "crop": 0.004, "bun": 0.004}.get(person.hair_style, 0.011)
    inside = _outer(person, u, v, back)
    out = smoothstep(inside + rough * s, -0.006, 0.012)
    if not back:
        soft = (
            0.004
            if person.hair_style == "scarf"
            else 0.03
            if person.hair_style in ("crop", "receding", "bald")
            else 0.016
        )
        out = out * smoothstep(
            _face_hole(person, u, v) + (rough + 0.006 * (person.hair_style != "scarf")) * s, soft, -soft
        )
        if person.hair_style in _LONG and not _forward(person):
            out = out * smoothstep(v + 0.02 * s, 0.56, 0.4)
    return out, s, inside


def hair_colour(
    person: Appearance, u: np.ndarray, v: np.ndarray, strands: np.ndarray, light: Light, ppu: float, inside: np.ndarray
) -> np.ndarray:
    """Shade the hair, (H, W, 3): a dome with a soft band of shine, dark between the strands; a scarf folds."""
    scarf = person.hair_style == "scarf"
    z = np.sqrt(np.clip(inside, 0, 0.3) * 0.6) * 0.55
    if scarf:
        hole = _face_hole(person, u, v)
        z = (
            z
            + 0.02 * np.sin(np.abs(hole) * 30 + 2 * np.abs(u) + person.texture[4]) * smoothstep(hole, 0, -0.1)
            + 0.006 * strands
        )
    else:
        z = z + 0.0035 * strands
    nx, ny, nz = normals(blur(z.astype(np.float32), 0.004 * ppu) * ppu)
    base = np.empty((*u.shape, 3), np.float32)
    if scarf:
        base[:] = person.cloth2
        return light.shade(base, nx, ny, nz)
    base[:] = person.hair
    if person.age > 0.4 and person.hair.mean() < 0.45:  # grey temples
        grey = smoothstep(np.abs(u), 0.2, 0.32) * (person.age - 0.35)
        base += (0.55 - base) * grey[..., None]
    light_hair = float(person.hair.mean())
    base *= (0.84 + (0.3 - 0.22 * light_hair) * np.clip(strands, -1.4, 1.6))[..., None]
    lit = light.shade(base, nx, ny, nz)
    lx, ly, _ = light.direction
    crown = (u - 0.12 * lx) ** 2 * 0.9 + (v + 0.16) ** 2
    band = bell(np.sqrt(crown), 0.27, 0.06) * (v < 0.1) + 0.6 * bell(v + 0.05 * np.cos(u * 9), 0.3, 0.1)
    shine = {"afro": 0.05, "curly": 0.08}.get(person.hair_style, 0.2) * (0.6 + 0.8 * person.texture[9] / 512)
    lit += (shine * band * np.clip(0.55 + 0.55 * strands, 0, 1.6) * (0.25 + person.hair.mean()))[..., None] * light.key
    return np.maximum(lit, 0.0)
