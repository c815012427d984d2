"""`data encode` that is killed goes on with what was written, and on Ray it writes what one process writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cyberhost_cli.main import main
from cyberhost_model.lab.filmed.manifest import accepted_rows, add_rows
from cyberhost_model.lab.synthetic.clips import export_clip
from cyberhost_model.lab.training.clip_encoder import EncoderConfig, load_clip_encoder
from cyberhost_model.lab.training.coded import list_clips
from cyberhost_model.lab.training.encode import encode_rows
from data_helpers import small_synth

pytest.importorskip("av")
pytest.importorskip("pyarrow")

SIZES = ((128, 128), (128, 192))
KILLED = """
import os, signal
from pathlib import Path
from cyberhost_model.lab.filmed.manifest import accepted_rows
from cyberhost_model.lab.training.clip_encoder import EncoderConfig, load_clip_encoder
from cyberhost_model.lab.training.encode import encode_rows

def kill_at_the_last_clip(done, of):
    if done == of:
        os.kill(os.getpid(), signal.SIGKILL)

dataset, out = Path({dataset!r}), Path({out!r})
encode_rows(dataset, accepted_rows(dataset), out, load_clip_encoder(EncoderConfig()), 16, 0,
            progress=kill_at_the_last_clip)
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A clip of each of two sizes, which are jobs of their own."""
    folder = tmp_path_factory.mktemp("dataset")
    rows = []
    for number, size in enumerate(SIZES):
        rows.append(export_clip(small_synth(folder / "speech", size=size).clip(number), folder, number))
        rows[-1].split = "train"
    add_rows(folder, rows)
    return folder


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """Both clips, encoded without a stop."""
    out = tmp_path_factory.mktemp("whole")
    encode_rows(dataset, accepted_rows(dataset), out, load_clip_encoder(EncoderConfig()), 16, 0)
    return out


def _same(out: Path, whole: Path) -> bool:
    ours, theirs = list_clips(out), list_clips(whole)
    tensors = ("z", "r", "features", "frame.face", "sound")
    return [clip.name for clip in ours] == [clip.name for clip in theirs] and all(
        torch.equal(a.open().rows(name), b.open().rows(name))
        for a, b in zip(ours, theirs, strict=True)
        for name in tensors
    )


def test_a_killed_run_goes_on_with_the_shards_that_are_whole(dataset, whole, tmp_path):
    out = tmp_path / "coded"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    script = KILLED.format(dataset=str(dataset), out=str(out))
    killed = subprocess.run([sys.executable, "-c", script], env=environment, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    (there,) = list_clips(out)  # the first job's; the second died before its shard was written
    written = there.file.stat().st_mtime_ns
    again = encode_rows(dataset, accepted_rows(dataset), out, load_clip_encoder(EncoderConfig()), 16, 0)
    assert (again.kept, again.coded) == (1, 1) and there.file.stat().st_mtime_ns == written
    assert _same(out, whole)


def test_ray_writes_the_same_clips(dataset, whole, ray_address, tmp_path):
    command = ["data", "encode", "--data", str(dataset), "-o", str(tmp_path / "coded"), "--frames", "16"]
    assert main([*command, "--engine", "ray", "--address", ray_address]) == 0
    assert _same(tmp_path / "coded", whole)
