"""Two processes on one machine (gloo) train as one process with all their batches does: DDP and FSDP, clips of mixed
sizes.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cyberhost_model.lab.training.checkpoint import lock_run
from cyberhost_model.lab.training.loop import train
from cyberhost_model.lab.training.process import Process
from training_worker import SharedStage, config, first_gradients

HERE = Path(__file__).parent
pytestmark = pytest.mark.slow


def _start(rank: int, port: int, out: Path) -> subprocess.Popen[str]:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    paths = os.pathsep.join([str(HERE), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **{k: str(v) for k, v in place.items()}}
    command = [sys.executable, str(HERE / "training_worker.py"), str(out)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """The folder in which two processes did all of `training_worker.main`; "single" was begun by one process."""
    out = tmp_path_factory.mktemp("two")
    shutil.copytree(train(SharedStage(mixed=True), out / "single", config(steps=1)), out / "single-before")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with lock_run(out / "held", Process(torch.device("cpu"))):
        processes = [_start(rank, port, out) for rank in (0, 1)]
        for process in processes:
            _, said = process.communicate(timeout=900)
            assert process.returncode == 0, said
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, torch.Tensor]:
    """The first gradients of one process that takes all four batches."""
    return first_gradients(tmp_path_factory.mktemp("one"), config(accumulate=4))


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_first_gradients_are_those_of_one_process(done, alone, parallel):
    two = load_file(done / f"{parallel}.safetensors")
    assert alone.keys() <= two.keys()  # under FSDP what no batch used has a gradient of zero
    nothing = torch.zeros(())
    assert max(float((two[name] - alone.get(name, nothing)).abs().max()) for name in two) < 1e-5


def test_the_first_batches_differ_in_size_and_in_what_they_use():
    """What makes the test above worth something."""
    stage, used = SharedStage(mixed=True), []
    for item in (0, 1):
        batch = stage.dataset(0)[item]
        stage.module.zero_grad()
        stage.loss(batch, torch.Generator().manual_seed(item))["loss"].backward()
        used.append((batch["z"].shape, {name for name, p in stage.module.named_parameters() if p.grad is not None}))
    assert used[0][0] != used[1][0] and used[0][1] != used[1][1]


def test_a_network_in_shards_is_distilled_as_one_that_is_whole(done):
    whole, shards = (load_file(done / f"distilled-{name}/last/model.safetensors") for name in ("ddp", "fsdp"))
    assert whole.keys() == shards.keys() and max(float((whole[k] - shards[k]).abs().max()) for k in whole) < 2e-4


def test_a_stopped_run_of_shards_goes_on_bit_for_bit(done):
    for name in ("model", "ema", "optimizer"):
        whole, parts = (load_file(done / f"{run}/last/{name}.safetensors") for run in ("whole", "parts"))
        assert whole.keys() == parts.keys() and all(torch.equal(whole[k], parts[k]) for k in whole)
    state = json.loads((done / "parts/last/state.json").read_text())
    assert state["step"] == 2 and state["items"] == 4


def test_a_checkpoint_of_shards_is_one_process_s(done):
    """Two processes under FSDP leave the weights that one process can go on with."""
    saved = load_file(done / "fp16/last/ema.safetensors")
    stage = SharedStage()
    stage.module.load_state_dict(saved)
    assert all(torch.isfinite(value).all() for value in saved.values())
    assert json.loads((done / "fp16/last/state.json").read_text())["extra"]["scaler"]["scale"] > 0


def test_shards_write_the_checkpoint_of_one_process_again_bit_for_bit(done):
    """Parameters that never had a gradient have no state in the optimizer, before and after."""
    for name in ("model", "ema", "optimizer"):
        before, after = (load_file(done / f"{run}/{name}.safetensors") for run in ("single-before", "single/last"))
        assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    stateless = len(list(SharedStage().module.parameters())) - len({key.split(".")[0] for key in before})
    assert stateless > 0


def test_every_process_names_the_batch_that_broke_one(done):
    told = [(done / f"error-{rank}.txt").read_text() for rank in (0, 1)]
    assert told[0] == told[1] and "step 1 (item 3: clip-3.safetensors)" in told[0]


def test_every_process_hears_that_a_folder_is_in_use(done):
    told = [(done / f"held-{rank}.txt").read_text() for rank in (0, 1)]
    assert told[0] == told[1] and f"process {os.getpid()} on" in told[0]
    assert [path.name for path in (done / "held").iterdir()] == [".lock"]


def test_one_process_writes_the_curves(done):
    rows = (done / "whole/curves.csv").read_text().splitlines()
    assert len(rows) == 2 and rows[1].startswith("2,") and "samples_s" in rows[0].split(",")
