"""A run folder belongs to one training at a time, tried with processes that live and are killed."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
import torch

from cyberhost_cli.main import main
from cyberhost_model.errors import OutputError
from cyberhost_model.lab.training.checkpoint import LOCK, lock_run
from cyberhost_model.lab.training.process import Process
from data_helpers import audio_stage_arguments

ALONE = Process(torch.device("cpu"))


@pytest.fixture
def training(tmp_path, command):
    """(arguments of a training, its process, its folder with a first checkpoint)."""
    arguments = [
        "train",
        *audio_stage_arguments(tmp_path / "material"),
        "-o",
        str(tmp_path / "run"),
        "--workers",
        "1",
    ]
    process = subprocess.Popen(
        [*command, *arguments, "--steps", "1000000", "--save-minutes", "0", "--keep", "1"],
        stderr=subprocess.PIPE,
        text=True,
    )
    state = tmp_path / "run/last/state.json"
    deadline = time.monotonic() + 600
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert process.poll() is None, process.stderr.read()
    yield arguments, process, tmp_path / "run"
    process.kill()
    process.communicate()


def test_a_folder_in_use_is_refused_until_its_process_is_gone(training, capfd):
    arguments, process, run = training
    began = time.monotonic()
    assert main([*arguments, "--steps", "3"]) == 9
    assert time.monotonic() - began < 60, "it waits for the other one, which goes on for hours"
    said = capfd.readouterr().err.strip().splitlines()
    assert len(said) == 1 and f"process {process.pid} on" in said[0] and "choose another folder" in said[0]
    assert process.poll() is None
    process.kill()  # SIGKILL: nothing is cleaned up, and the process that made its batches may live on for a while
    process.wait()
    before = json.loads((run / "last/state.json").read_text())["step"] if (run / "last").exists() else 0
    assert (run / LOCK).exists()
    assert main([*arguments, "--steps", str(before + 2), "--json"]) == 0
    assert json.loads((run / "last/state.json").read_text())["step"] == before + 2


def test_who_holds_a_folder_may_hold_it_again(tmp_path):
    with lock_run(tmp_path / "run", ALONE), lock_run(tmp_path / "run", ALONE):
        assert (tmp_path / "run" / LOCK).exists()
    with lock_run(tmp_path / "run", ALONE):
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), lock_run(tmp_path / "file" / "run", ALONE):
        raise AssertionError("not reached")
