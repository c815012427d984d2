"""The measuring around what is measured: turns, medians, ratios, clocks."""

from __future__ import annotations

import dataclasses
import time

import pytest
import torch
from benchmarks import models
from benchmarks.__main__ import measure
from benchmarks.clocks import CLOCKS
from benchmarks.implementations import ours, windows
from benchmarks.inputs import write_inputs
from benchmarks.pool import Broken, Contestant, Worker
from benchmarks.report import WINDOWS, job_overhead, markdown, ratios
from benchmarks.rounds import run_rounds, summary
from benchmarks.sizes import SIZES

from cyberhost_model.hub.registry import ADAPTERS
from cyberhost_model.model.region_attention import MotionCodebook


class Asked:
    """Stands in turn with others; notes who was asked for what."""

    def __init__(self, label: str, seconds: list[float], asked: list[str], fails_at: int = 99) -> None:
        self.label, self.seconds, self.asked, self.fails_at = label, iter(seconds), asked, fails_at
        self.facts = {"parts": ["step", "job"]}
        self.times = 0

    def measure(self, part: str) -> dict:
        self.times += 1
        if self.times == self.fails_at:
            raise Broken("no memory")
        self.asked.append(f"{self.label} {part}")
        return {"seconds": next(self.seconds), "peak_mb": 1.0, "peak_since_start": False}


def test_rounds_take_turns_and_forget_the_first():
    asked: list[str] = []
    broken: dict[str, str] = {}
    workers = [Asked("a", [9, 1, 2, 3], asked), Asked("b", [8, 5, 6, 7], asked)]
    found = run_rounds(workers, 2, 1, False, broken, lambda line: None)
    assert asked == ["a step", "b step", "b step", "a step", "b job", "a job", "a step", "b step"] and not broken
    assert [one["seconds"] for one in found["a"]["step"]] == [1, 3] and summary(found["a"]["step"])["median"] == 2


def test_what_breaks_is_left_out_and_told():
    broken: dict[str, str] = {}
    workers = [Asked("a", [1] * 9, []), Asked("b", [1] * 9, [], fails_at=2)]
    found = run_rounds(workers, 2, 0, False, broken, lambda line: None)
    assert broken == {"b": "step: no memory"} and len(found["a"]["step"]) == 2 and "step" not in found["b"]
    settings = {"size": "small", "device": "cpu", "precision": "fp32", "threads": 1, "clock": "wall", "inputs": {}}
    worker = Worker(Contestant("x", "no_such_implementation"), settings)
    with pytest.raises(Broken, match="no_such_implementation"):
        worker.ready()
    worker.close()


def test_ratios_are_of_the_lower_bound_and_of_the_quicker_peer():
    def part(median: float) -> dict:
        return {
            "median": median,
            "quickest": median,
            "slowest": median,
            "times": 1,
            "peak_mb": 5.0,
            "peak_since_start": False,
        }

    ours = {"step, 2 branches": part(3.0), "decode": part(1.0), "job": part(15.0)}
    results = {
        "ours": ours,
        "plain diffusers": {"step, 2 branches": part(2.0)},
        "A": {"job": part(30.0)},
        "B": {"job": part(20.0)},
    }
    found = ratios(results)
    assert found == {"step, 2 branches, of plain diffusers'": 1.5, "job, of the quicker peer's": 0.75}
    size = {"branches": (2,), "job_frames": 4, "frames": 2, "decoded": 2, "job_steps": 2}
    assert job_overhead(ours, size) == pytest.approx(15 / (2 * 2 * 3 + 2))
    size |= {"name": "x", "widths": (1,), "latent": (2, 2)}
    report = {
        "size": size,
        "results": results,
        "ratios": found,
        "broken": {"C": "why"},
        "precision": "fp32",
        "device": "cpu",
        "torch": "2",
        "clock": "wall",
    }
    text = markdown(report)
    assert "| step, 2 branches, of plain diffusers' | 1.50 |" in text and "C could not be measured: why" in text


def test_the_windowed_job_is_compared_with_its_own_program():
    part = {"median": 2.0}
    found = ratios({WINDOWS: {"job": part}, "EchoMimicV2": {"job": {"median": 4.0}}})
    assert found == {"job in overlapping windows, of EchoMimicV2's": 0.5}


@pytest.mark.slow
def test_the_windowed_job_runs(tmp_path):
    """Two windows and a frame, at the size that tries the benchmark."""
    size = dataclasses.replace(SIZES["small"], job_frames=22, frames=12)
    parts = windows.parts(size, torch.device("cpu"), torch.float32, write_inputs(size, tmp_path))
    with torch.no_grad():
        parts["job's warming up"]()
    assert (tmp_path / "windows.mp4").stat().st_size > 1000


def test_every_published_model_is_measured():
    assert set(models.NAMES) == set(ADAPTERS) - {"sd15"}
    one = {"frames": 25, "size": (384, 640), "steps": 30, "branches": 2, "seconds": 5.0, "peak_gb": 7.25}
    assert models.row("hallo", one) == "| hallo | 25 | 384x640 | 30 | 2 | 5.0 | 0.20 | 7.2 |"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["animate-anyone", "echomimic-v2-fast", "hallo2"])
def test_a_published_model_is_measured(name, monkeypatch):
    """One of each kind, at the size that tries the benchmark."""
    monkeypatch.setitem(models.CLIP_VIT_L, "num_hidden_layers", 1)
    with torch.no_grad():
        found = models.measure(name, SIZES["small"], torch.device("cpu"), torch.float32, 0.2, 1, "wall")
    assert found["frames"] == 5 and found["seconds"] > 0 and found["branches"] == 1 + (name != "echomimic-v2-fast")


def test_the_full_sizes_job_is_guided():
    """A job has the first of the branches."""
    assert SIZES["full"].branches[0] == 2 and set(SIZES["full"].branches) == {1, 2, 3}


@torch.no_grad()
def test_a_step_is_measured_with_fixed_weights(host, monkeypatch):
    """As jobs have it: inside, no codebook is computed."""
    monkeypatch.setattr(ours, "model", lambda size, device, dtype: host.model)
    parts = ours.parts(SIZES["tiny"], torch.device("cpu"), torch.float32, {})
    step, calls = parts["step, 1 branch"], []
    codebooks = [m for m in host.model.network.denoising_unet.modules() if isinstance(m, MotionCodebook)]
    hooks = [m.register_forward_hook(lambda *_: calls.append(1)) for m in codebooks]
    with step.inside():
        entered = len(calls)
        step()
    for hook in hooks:
        hook.remove()
    assert len(calls) == entered > 0


def test_waiting_takes_no_processor():
    began = {name: clock() for name, clock in CLOCKS.items()}
    time.sleep(0.2)
    taken = {name: clock() - began[name] for name, clock in CLOCKS.items()}
    assert taken["wall"] >= 0.2 and taken["processor"] < 0.1


def test_an_interpreter_that_does_not_start_is_told(capsys):
    """The others would still be measured."""
    report = measure("small", [Contestant("peer", "animate_anyone", "/nowhere/python")], "cpu", "fp32", 1, "wall", 1, 1)
    assert (
        report["broken"] == {"peer": "/nowhere/python does not start: No such file or directory"}
        and not report["measurements"]
    )
    assert "peer: /nowhere/python does not start" in capsys.readouterr().err
