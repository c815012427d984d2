"""Measures the videos of `scripts/parts_videos.py` with networks that this project did not train.

    python scripts/parts_measure.py OUT

Needs the environment of `scripts/heldout_measure.py`. Prints a row for each part and option, against the same people's
"whole": how far mouth, head and hands move (the deviation of the lips' gap, of the nose and of the hands' middles, as a
share of the whole's), whether they go the same way (correlation of these paths), how sharp the hands are (Laplacian
deviation, share of the whole's), and the mean grey difference of the frames (0 to 255).
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from heldout_measure import NOSE, Judges, frames_of, opening

ENLARGED, REACH = 3, 0.25
"""Factor by which frames are enlarged, because MediaPipe does not see hands of 20 pixels; share of the frame's width
within which a hand is the same one."""


def paths(video: np.ndarray, hands: list[np.ndarray], judges: Judges) -> dict[str, np.ndarray]:
    """Lips' gap (T, 1), nose (T, 2), hands' middles (T, 2 for each) and sharpness around them (T, n); NaN: unseen."""
    rows: dict[str, list[np.ndarray]] = {"mouth": [], "head": [], "hands": [], "sharp": []}
    for frame in video:
        large = cv2.resize(frame, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
        points, found = judges.face(large), judges.hand_centres(large)
        rows["mouth"].append(np.array([np.nan if points is None else opening(points)]))
        rows["head"].append(np.full(2, np.nan) if points is None else points[NOSE])
        places, sharp = [], []
        for hand in hands:
            near = [c for c in found if np.linalg.norm(c - hand) < REACH * large.shape[1]]
            at = min(near, key=lambda c: np.linalg.norm(c - hand)) if near else np.full(2, np.nan)
            places.append(at)
            x, y = np.nan_to_num(at, nan=0).astype(int)
            side = large.shape[1] // 16
            box = cv2.cvtColor(large, cv2.COLOR_RGB2GRAY)[max(y - side, 0) : y + side, max(x - side, 0) : x + side]
            sharp.append(cv2.Laplacian(box, cv2.CV_32F).std() if near else np.nan)
        rows["hands"].append(np.concatenate(places))
        rows["sharp"].append(np.array(sharp))
    return {name: np.array(values) for name, values in rows.items()}


def compare(own: np.ndarray, whole: np.ndarray) -> tuple[float, float]:
    """Share of the whole's deviation, and mean correlation, over the frames that both see."""
    seen = ~np.isnan(own).any(1) & ~np.isnan(whole).any(1)
    a, b = own[seen] - own[seen].mean(0), whole[seen] - whole[seen].mean(0)
    share = np.sqrt((a**2).sum() / max((b**2).sum(), 1e-12))
    return float(share), float((a * b).sum() / max(np.sqrt((a**2).sum() * (b**2).sum()), 1e-12))


def main() -> None:
    folder, judges = Path(sys.argv[1]), Judges()
    wholes = {}
    for file in sorted((folder / "whole").glob("*.mp4")):
        video = frames_of(file)
        large = cv2.resize(video[0], None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
        hands = judges.hand_centres(large)
        wholes[file.name] = (video, hands, paths(video, hands, judges))
    print("| taken out, or set | mouth | head | hands | hands' sharpness | grey difference |")
    print("|---|---:|---:|---:|---:|---:|")
    for kind in sorted(path for path in folder.iterdir() if path.name != "whole"):
        rows = []
        for name, (video, hands, whole) in wholes.items():
            if not (kind / name).exists():
                continue
            other = frames_of(kind / name)
            found = paths(other, hands, judges)
            grey = np.abs(other.astype(float) - video).mean()
            sharp = np.nanmean(found["sharp"]) / np.nanmean(whole["sharp"])
            rows.append([*compare(found["mouth"], whole["mouth"]), *compare(found["head"], whole["head"])])
            rows[-1] += [*compare(found["hands"], whole["hands"]), sharp, grey]
        m = np.nanmean(rows, 0)
        both = " | ".join(f"{m[i]:.2f}, {m[i + 1]:.2f}" for i in (0, 2, 4))
        print(f"| {kind.name} | {both} | {m[6]:.2f} | {m[7]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
