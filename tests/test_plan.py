"""`--plan`: a job looked at before it starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from cyberhost_cli import main as cli
from cyberhost_cli.exit_status import ExitStatus
from cyberhost_model import InputError
from cyberhost_model.config import GenerationConfig
from cyberhost_model.device import multiplies_bf16
from cyberhost_model.doctor.checks import check_picture, check_sound
from cyberhost_model.driving.template import load_template
from cyberhost_model.media.audio import Sound
from cyberhost_model.media.ffmpeg import ffmpeg_binary
from cyberhost_model.model.network import CyberHostNetwork
from data_helpers import voice

pytestmark = pytest.mark.usefixtures("loaded_once", "timed_once")


def told(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    code = cli.main([*map(str, words), "--plan", "--json"])
    shown = capsys.readouterr()
    assert code == ExitStatus.OK, shown.err
    return json.loads(shown.out)


def test_a_plan_of_a_job(
    portrait_file: Path, speech_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--steps", "4", "--guidance-audio", "2", "--size", "256", "--device", "cpu")
    plan = told(capsys, "animate", portrait_file, speech_file, "-o", tmp_path / "out.mp4", *options)
    assert list(tmp_path.iterdir()) == []
    seconds = soundfile.info(str(speech_file)).duration
    assert plan["frames"] == int(np.ceil(seconds * 25)) and plan["clips"] == -(-plan["frames"] // 12)
    assert (plan["steps"], plan["branches"], plan["missing"], plan["model"]) == (4, 2, [], "tiny")
    assert (
        plan["sound"]["seconds"] == pytest.approx(seconds)
        and plan["sound"]["speech"] > 0.5
        and -40 < plan["sound"]["level"] < 0
    )
    picture = plan["picture"]
    assert 0.1 < picture["face"] < 0.4 and abs(picture["turn"]) < 0.5 and not picture["head_alone"]
    assert plan["size"][0] == plan["size"][1] and picture["face_pixels"] == pytest.approx(
        picture["face"] * plan["size"][1], abs=1
    )
    assert plan["estimate"]["seconds"] > 0 and plan["machine"]["precision"] == ("bf16" if multiplies_bf16() else "fp32")


def test_cutting_the_person_out_is_counted(
    portrait_file: Path, speech_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = ("animate", portrait_file, speech_file, "-o", tmp_path / "out.webm", "--size", "256", "--steps", "1")
    plain, cut = told(capsys, *job)["estimate"], told(capsys, *job, "--alpha")["estimate"]
    assert plain["costs"]["cut_out"] == plain["costs"]["matte"] == 0
    costs = cut["costs"]
    assert costs["matte"] > costs["cut_out"] > 0, "the network and the colours beside the flow of a frame"
    frames = 83
    assert cut["seconds"] > costs["matte"] + frames * costs["cut_out"] > 0.1
    assert list(tmp_path.iterdir()) == []


def test_a_plan_of_exported_steps(
    portrait_file: Path, speech_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is an extra: pip install 'cyberhost[onnx]'")
    pytest.importorskip("onnx", reason="onnx is an extra: pip install 'cyberhost[onnx]'")
    job = ["animate", portrait_file, speech_file, "-o", tmp_path / "out.mp4", "--size", "256", "--onnx"]
    costs = told(capsys, *job, "--precision", "fp32")["estimate"]["costs"]
    assert costs["exported"]["plain_export"] > costs["exported"]["plain_step"] > 0
    code = cli.main([*map(str, job), "--precision", "bf16", "--plan"])
    assert code == ExitStatus.RESOURCE and "leave out --onnx" in capsys.readouterr().err, "as the job would end"


def test_a_plan_in_words(portrait_file: Path, tone, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made" / "out.mp4"
    out.parent.mkdir()
    line = [
        "multimodal",
        portrait_file,
        "--audio",
        tone(seconds=1.5),
        "--hands",
        "wave",
        "-o",
        out,
        "--steps",
        "1",
        "--plan",
    ]
    assert cli.main([str(word) for word in line]) == ExitStatus.OK
    shown = capsys.readouterr()
    subjects = [row.split(" ", 1)[0] for row in shown.out.splitlines()]
    for subject in ("face", "hands", "sound", "video", "denoising", "device", "precision", "ffmpeg", "cache", "takes"):
        assert subject in subjects
    assert "38 frames" in shown.out and "no speech" in shown.err
    assert list(out.parent.iterdir()) == []


def test_a_picture_that_cannot_work(
    picture_file: Path, tone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["animate", str(picture_file), str(tone()), "-o", str(tmp_path / "out.mp4"), "--plan"])
    shown = capsys.readouterr()
    assert code == ExitStatus.NO_FACE and shown.out == "" and shown.err.count("\n") == 1


def test_a_person_too_far_away(host, picture: np.ndarray) -> None:
    far = np.full((1024, 1024, 3), 128, np.uint8)
    far[300:660, 300:660] = np.asarray(Image.fromarray(picture).resize((360, 360)))
    near = host.animate(picture, Sound.from_samples(voice(0.2), 16_000))
    away = host.animate(far, Sound.from_samples(voice(0.2), 16_000))
    preset = host.model.network.preset
    found, notes = check_picture(near.job, preset)
    less, warned = check_picture(away.job, preset)
    assert less.mouth_cells < 0.6 * found.mouth_cells and less.mouth_cells < 1
    assert any("crop the picture" in note for note in warned) and len(warned) > len([n for n in notes if "crop" in n])
    head, _ = check_picture(host.animate(picture, Sound.from_samples(voice(0.2), 16_000), head=True).job, preset)
    assert head.head_alone and head.hands == [] and head.hand_sharpness is None and head.face > found.face


def test_hands_and_pose_are_seen(host, picture: np.ndarray) -> None:
    job = host.animate(picture, Sound.from_samples(voice(0.2), 16_000)).job
    points = load_template("rest").frame(0)
    points.hands_score[1] = 0
    shown = replace(job, reference=replace(job.reference, keypoints=points, picture_keypoints=points))
    found, _ = check_picture(shown, host.model.network.preset)
    assert found.hands == ["left"] and found.hand_sharpness is not None and found.hand_sharpness >= 0
    assert {"r_shoulder", "l_shoulder", "l_elbow"} <= set(found.body)
    points.hands_score[:] = points.body_score[:] = 0
    nothing, _ = check_picture(shown, host.model.network.preset)
    assert (nothing.hands, nothing.hand_sharpness, nothing.body) == ([], None, [])


@pytest.fixture
def broken_ffmpeg(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """One that is not there, or cannot run, or ends at once."""
    path = tmp_path_factory.mktemp("bin") / "ffmpeg"
    if request.param:
        path.write_bytes(request.param)
        path.chmod(0o755)
    ffmpeg_binary.cache_clear()
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))
    yield path
    ffmpeg_binary.cache_clear()


@pytest.mark.parametrize("broken_ffmpeg", [b"", b"\x7fELF\0\0\0\0", b"#!/bin/sh\nexit 127\n"], indirect=True)
def test_an_ffmpeg_that_does_not_run_ends_a_plan_and_a_job_before_they_begin(
    portrait_file: Path,
    speech_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    broken_ffmpeg: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CyberHostNetwork, "forward", lambda *_, **__: pytest.fail("a step was computed"))
    for more in ([], ["--plan"]):
        assert (
            cli.main(["animate", str(portrait_file), str(speech_file), "-o", str(tmp_path / "out.mp4"), "-q", *more])
            == ExitStatus.RESOURCE
        )
        said = capsys.readouterr().err
        assert f"{broken_ffmpeg} does not run" in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_sounds(host) -> None:
    encoder = host.model.speech
    spoken, nothing = check_sound(Sound.from_samples(voice(2.0), 16_000), encoder)
    assert spoken.seconds == 2.0 and spoken.level is not None and not [n for n in nothing if "quiet" in n]
    silence, _ = check_sound(Sound.from_samples(np.zeros(16_000, np.float32), 16_000), encoder)
    assert silence.level is None and silence.speech == 0.0
    _, warned = check_sound(Sound.from_samples(voice(2.0) * 1e-3, 16_000), encoder)
    assert warned


def test_guidance_on_an_interval(host, picture: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    sound = Sound.from_samples(voice(0.1), 16_000)
    guided = {"steps": 2, "size": 256, "guidance_audio": 3.0}
    calls: list[int] = []
    hook = host.model.network.register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))
    try:
        list(host.animate(picture, sound, guidance_interval=(0.0, 0.8), **guided).frames)
    finally:
        hook.remove()
    assert calls == [1, 2]  # t = 1000, 750
    with pytest.raises(InputError, match="two rising numbers"):
        GenerationConfig(guidance_interval=(0.8, 0.2))
    for wrong in ("0.5", "0.8,0.2", "a,b", "0,2"):
        assert cli.main(["animate", "a.png", "b.wav", "-o", "c.mp4", "--guidance-interval", wrong]) == ExitStatus.USAGE
        assert "two rising numbers" in capsys.readouterr().err
