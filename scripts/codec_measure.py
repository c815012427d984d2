"""PSNR of a codec's frames decoded from their own true latents, whole and of mouth and hands, on datasets' clips.

    python scripts/codec_measure.py CODEC DATASET... [--split train] [--every 8] [--picture SHEET.png]

CODEC: "tiny", a model's folder or a run of stage codec. DATASET: of `cyberhost data prepare` or `data synth`. Every
clip is coded against one frame of its own, which the seed draws. The sheet shows reference, frame and decoded frame.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codec")
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--split", default="train")
    parser.add_argument("--every", type=int, default=8, help="frames between two that are measured")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", type=float, default=0.0, help="deviation of noise added to the latents")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()

    import numpy as np
    import torch
    from PIL import Image

    from cyberhost_model.lab.filmed.manifest import accepted_rows
    from cyberhost_model.lab.training.assemble import trained_codec
    from cyberhost_model.lab.training.codec_inputs import encode_frames
    from cyberhost_model.lab.training.fidelity import GOALS, Fidelity, decode_clip
    from cyberhost_model.lab.training.filmed_clips import cut_clips, read_filmed

    torch.set_num_threads(1)
    codec, rows = trained_codec(options.codec), []
    means = []
    for dataset in options.datasets:
        found = Fidelity()
        for row in accepted_rows(dataset, options.split):
            filmed = read_filmed(dataset, row)
            filmed.pictures = filmed.pictures[:: options.every]
            filmed.labels = {
                name: value[:: options.every] if value.ndim else value for name, value in filmed.labels.items()
            }
            generator = torch.Generator().manual_seed(options.seed)
            for (clip,) in cut_clips(filmed, len(filmed.pictures), np.random.default_rng(options.seed)):
                z = encode_frames(clip, codec).float()
                z += options.noise * torch.randn(z.shape, generator=generator)
                found.add(codec, clip, z, None)
                middle = len(z) // 2
                decoded = decode_clip(codec, clip, z[middle : middle + 1])[0]
                rows.append(np.hstack([clip.reference.picture_u8, clip.frames[middle].picture_u8, decoded]))
        means.append(found.psnr())
        print(f"{dataset.name}: " + ", ".join(f"{name} {value:.2f}" for name, value in means[-1].items()), flush=True)
    together = {name: np.mean([m[name] for m in means if name in m]) for name in GOALS}
    print(
        "mean of sets: " + ", ".join(f"{name} {value:.2f} (goal {GOALS[name]:.0f})" for name, value in together.items())
    )
    if options.picture:
        width = max(row.shape[1] for row in rows)
        padded = [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0))) for row in rows[:12]]
        Image.fromarray(np.vstack(padded)).save(options.picture)


if __name__ == "__main__":
    main()
