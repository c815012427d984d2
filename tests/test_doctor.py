"""`cyberhost doctor`: what it finds, that it never hangs, and its exit codes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cyberhost_cli import main as cli
from cyberhost_cli.doctor import _duration
from cyberhost_cli.exit_status import ExitStatus
from cyberhost_model import CyberHost, NetworkError, OutputError, ResourceError
from cyberhost_model.config import GenerationConfig
from cyberhost_model.device import choose_device, multiplies_bf16
from cyberhost_model.doctor import costs, downloads, machine, network
from cyberhost_model.doctor import downloads as extras
from cyberhost_model.doctor import machine as ffmpeg
from cyberhost_model.doctor.examination import examine
from cyberhost_model.hub.inventory import MissingWeights
from cyberhost_model.model.region_attention import RegionCodebookAttention

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No network, and an empty cache that does not exist yet."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    return tmp_path


def test_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told = {extra.name for extra in extras.extras()}
    assert told == set(project["optional-dependencies"]) - {"dev", "eval", "ui"}  # other names of face and serve
    for extra in extras.extras():
        wanted = " ".join(project["optional-dependencies"][extra.name])
        assert all(module.replace("_", "-") in wanted for module in extra.modules)
    assert dataclasses.replace(extras.extras()[0], modules={"a": None, "b": "1"}).here is False


def test_ffmpeg_is_the_one_videos_are_written_with(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ffmpeg.find_ffmpeg()
    assert Path(found.path).is_file() and found.encoders == ("libx264", "aac") and found.version[0].isalnum()
    monkeypatch.setattr(ffmpeg, "ffmpeg_binary", lambda: str(ROOT / "no-such-ffmpeg"))
    with pytest.raises(ResourceError, match="does not run"):
        ffmpeg.find_ffmpeg()
    monkeypatch.setattr(ffmpeg, "_output_of", lambda path, argument: "ffmpeg version 9 built\n V..... libx264 H.264\n")
    with pytest.raises(ResourceError, match="cannot write aac"):
        ffmpeg.find_ffmpeg()


def test_the_machine_and_its_precision() -> None:
    found = machine.describe_machine(*choose_device("cpu", "auto"))
    assert found.precision == ("bf16" if multiplies_bf16() else "fp32") and "AMX" in found.why
    assert 0 < found.free <= found.memory and found.cores >= 1 and found.name
    assert machine.describe_machine(*choose_device("cpu", "bf16"), "bf16").why == "asked for"


def test_an_nvidia_gpu_and_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read of a GPU, with torch's part and nvidia-smi played by stand-ins."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '580.159.04, NVIDIA Thing'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    unused = machine.describe_machine(*choose_device("cpu", "auto"))
    assert unused.device == "cpu" and unused.hint and "NVIDIA Thing" in unused.hint
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Thing")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (30 * 10**9, 40 * 10**9))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    found = machine.describe_machine(torch.device("cuda"), torch.float16, "fp16")
    assert (found.device, found.name, found.driver, found.runtime) == (
        "cuda",
        "NVIDIA Thing",
        "580.159.04",
        "CUDA 13.0",
    )
    assert (found.memory, found.free, found.hint) == (40 * 10**9, 30 * 10**9, None)


def test_waiting_ends() -> None:
    began = time.monotonic()
    with pytest.raises(NetworkError, match="does not answer within 0.1 s"):
        network.within(0.1, lambda: time.sleep(20), "the Hub")
    assert time.monotonic() - began < 10
    assert network.within(5, lambda: 7, "the Hub") == 7
    with pytest.raises(ValueError):
        network.within(5, lambda: int("x"), "the Hub")


def test_a_hub_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        began = time.monotonic()
        found = network.ask_hub(0.5)
        assert not found.reachable and found.why and time.monotonic() - began < 10


def test_proxies_are_told_without_their_passwords(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:secret@proxy.example:3128")
    found = network.ask_hub()
    assert not found.reachable and found.why == "HF_HUB_OFFLINE is set"
    assert found.proxies["https"] == "proxy.example:3128" and "secret" not in str(found)


def test_what_cannot_be_fetched(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, hub = network.find_cache(), network.ask_hub()
    assert cache.folder == str(offline / "home" / "hub") and cache.free > 0 and not Path(cache.folder).exists()
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE"):
        downloads.check_fetch("a/b", [MissingWeights("a/b", 5)], hub)
    with pytest.raises(OutputError, match="are needed in"):
        downloads.check_fetch("a/b", [MissingWeights("a/b", 1 << 62)], hub)
    downloads.check_fetch("a/b", [MissingWeights("a/b", 0)], hub)  # here already, to be converted
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(20 * 10**9, 15 * 10**9, 5 * 10**9))
    with pytest.raises(OutputError, match=r"9\.8 GB are needed in"):
        downloads.check_fetch("sd15", [MissingWeights("sd15", 0)], hub)
    found = {entry.command: entry for entry in downloads.downloads([])}
    assert found["animate"].size == found["reenact"].size == found["multimodal"].size == 0
    assert (
        found["eval"].size > 1e8
        and found["train"].size > 5e9
        and "sd15" in found["train"].note
        and "hallo2" in found["train"].note
    )
    assert {entry.name for entry in found["data prepare"].missing} == {"dwpose", "syncnet"}
    names = {command: {entry.name for entry in found[command].missing} for command in ("train", "data encode")}
    assert (
        not names["train"] & {"dwpose", "arcface"}
        and names["data encode"] - names["train"] <= {"arcface"}
        and found["data encode"].size > 5e9
    )


def test_the_embedded_model_runs_here(timed_once, offline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["doctor", "--device", "cpu", "--json"])
    shown = capsys.readouterr()
    assert code == ExitStatus.OK, shown.err
    told = json.loads(shown.out)
    assert told["exit_code"] == 0 and told["problems"] == [] and told["hub"]["reachable"] is False
    assert told["minute"]["seconds"] > 0 and told["minute"]["memory"] > 1e8 and told["minute"]["costs"]["whole"] is True
    assert "can make videos here with tiny: about" in told["verdict"]
    assert list(offline.iterdir()) == []


@pytest.mark.usefixtures("counted_at_once")
@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--model", "nothing"], ExitStatus.MODEL, "there is no model"),
        (["--model", "some/one"], ExitStatus.NETWORK, "HF_HUB_OFFLINE"),
        (["--model", "sd15"], ExitStatus.NETWORK, "HF_HUB_OFFLINE"),
        (["--precision", "fp16", "--device", "cpu"], ExitStatus.RESOURCE, "fp16 is not for the CPU"),
    ],
)
def test_verdicts(options: list[str], code: int, words: str, offline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", *options]) == code
    shown = capsys.readouterr().out
    assert "cannot make videos here" in shown.splitlines()[-1] and words in shown.splitlines()[-1]
    assert ("roughly" in shown) == ("sd15" in options)
    assert shown.count("\n") > 8
    assert list(offline.iterdir()) == []


def once(count: Callable[..., Any]) -> Callable[..., Any]:
    """Count at the first call; the others get the same."""
    found: list[Any] = []
    return lambda *given: found[0] if found else found.append(count(*given)) or found[0]


def test_a_published_model_that_is_not_here_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1e9 < costs.matrix_rate(torch.device("cpu"), torch.float32) < 1e15
    monkeypatch.setattr(costs, "matrix_rate", lambda device, dtype: 1e12)
    for part in ("_count_step", "_count_decoding"):  # which take long, and are the same for every length
        monkeypatch.setattr(costs, part, once(getattr(costs, part)))
    both = GenerationConfig(guidance_reference=2.5, guidance_audio=2.5)
    found = costs.count_estimate("sd15", both, 48, torch.device("cpu"), torch.bfloat16)
    assert found is not None and 27 < found.tflop < 28  # as counted on an H100, docs/reference/performance.md
    assert 5e9 < found.memory < 1.2e10 and found.seconds > 60
    twice = costs.count_estimate("sd15", both, 96, torch.device("cpu"), torch.bfloat16)
    assert twice is not None and twice.seconds == pytest.approx(2 * found.seconds)
    third = costs.count_estimate(
        "sd15", dataclasses.replace(both, guidance_interval=(0.0, 0.5)), 48, torch.device("cpu"), torch.bfloat16
    )
    assert third is not None and 0.6 < third.seconds / found.seconds < 0.9 and third.tflop == found.tflop
    assert costs.count_estimate("some/one", both, 48, torch.device("cpu"), torch.float32) is None


def test_a_device_too_slow_for_a_whole_step(host: CyberHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """One frame stands for a clip, and the memory of a clip is not told."""
    monkeypatch.setattr(costs, "LONGEST_STEP", 0.0)
    job = costs.blank_job(host)
    measured = costs.measure_costs(host, job)
    assert not measured.whole and measured.memory is None
    assert measured.step == measured.plain_step > 0 and measured.decode > 0  # one branch
    guidance = dataclasses.replace(job.guidance, reference=2.5, audio=4.5, interval=(0.0, 0.8))
    guided = dataclasses.replace(job, guidance=guidance, config=dataclasses.replace(job.config, steps=8))
    told = costs.Costs(3.0, 1.0, 0.5, 2.0, 0.1, 0.0, 0.0, None, 7, True)
    monkeypatch.setattr(costs, "measure_costs", lambda host, job, form: told)
    found = costs.estimate(host, guided, 1500)
    # 125 clips of 8 steps; t = 1, 0.95, 0.9, 0.83, 0.75, 0.64, 0.5, 0.3: four of them guided; 60 s of sound
    assert found.seconds == pytest.approx(125 * (0.5 + 4 * 3 + 4 * 1 + 2) + 60 * 0.1) and found.memory == 7
    told = dataclasses.replace(told, cut_out=0.02, matte=0.3)
    assert costs.estimate(host, guided, 1500).seconds == pytest.approx(found.seconds + 0.3 + 1500 * 0.02)


def test_exported_steps_are_counted_from_the_third_clip_on(host: CyberHost, monkeypatch: pytest.MonkeyPatch) -> None:
    job = costs.blank_job(host)
    guided = dataclasses.replace(job, config=dataclasses.replace(job.config, steps=5))
    told = costs.Costs(3.0, 3.0, 0.5, 2.0, 0.0, 0.0, 0.0, costs.ExportedCosts(2.0, 2.0, 7.0, 7.0), None, True)
    monkeypatch.setattr(costs, "measure_costs", lambda host, job, form: told)
    frames = host.model.network.preset.frames
    assert [costs.estimate(host, guided, n * frames).seconds for n in (2, 3, 10)] == pytest.approx(
        [2 * 17.5, 2 * 17.5 + 7 + 12.5, 2 * 17.5 + 7 + 8 * 12.5]
    )
    assert costs.ExportedCosts(2.0, 1.0, 7.0, 5.0).exporting(4, 4) == 12.0


def test_exporting_and_exported_steps_are_timed(timed_once, exported_host: CyberHost) -> None:
    measured = costs.measure_costs(exported_host, costs.blank_job(exported_host))
    assert measured.exported is not None and measured.spared == ()
    assert measured.exported.plain_export > measured.exported.plain_step > 0
    assert measured.exported.step == measured.exported.plain_step, "one branch"
    assert exported_host.exported == {}, "the measurement exports for itself"


@pytest.fixture
def exported_host(host: CyberHost) -> CyberHost:
    """The embedded model whose steps onnxruntime computes."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is an extra: pip install 'cyberhost[onnx]'")
    pytest.importorskip("onnx", reason="onnx is an extra: pip install 'cyberhost[onnx]'")
    return CyberHost(host.model, torch.device("cpu"), torch.float32, onnx=True)


def test_a_part_of_a_step_says_that_onnxruntime_is_not_counted(
    exported_host: CyberHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "LONGEST_STEP", 0.0)
    measured = costs.measure_costs(exported_host, costs.blank_job(exported_host))
    assert measured.exported is None and "onnxruntime" in measured.spared[0]


def test_durations_in_words() -> None:
    assert [_duration(s) for s in (0.84, 42.2, 170, 3600 * 3 + 290)] == ["0.8 s", "42 s", "2 min 50 s", "3 h 04 min"]


def test_an_examination_raises_nothing(offline: Path) -> None:
    found = examine("some/one", device="cpu")
    assert found.exit_code == NetworkError.exit_code and found.minute is None and found.machine is not None


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("runtime.pipeline.load_model", "not enough memory on cpu to load the model: end other"),
        ("doctor.examination.blank_job", "CUDA out of memory. Tried to allocate"),
    ],
)
def test_too_little_memory_for_the_model_is_a_problem(
    offline: Path, monkeypatch: pytest.MonkeyPatch, part: str, said: str
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20.00 MiB")

    monkeypatch.setattr(f"cyberhost_model.{part}", full)
    found = examine("tiny", device="cpu")
    assert found.exit_code == ResourceError.exit_code and found.minute is None
    assert said in found.problems[0].what


def test_steps_are_timed_with_fixed_weights(timed_once, host: CyberHost, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    unet = host.model.network.denoising_unet
    for module in unet.regions.values():
        if isinstance(module, RegionCodebookAttention):
            monkeypatch.setattr(
                module, "_codebooks", lambda real=module._codebooks, module=module: (made.append(module), real())[1]
            )
    monkeypatch.setattr(costs, "LONGEST_STEP", 1e9)
    costs.measure_costs(host, costs.blank_job(host))
    assert len(made) == len(set(made)) > 0
