"""Models converted from others' checkpoints, at a tiny size, from the published files to a video: through the command
line, offline.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from peer_models import parts, small
from PIL import Image
from portrait_models import portrait_parts, small_portrait

from cyberhost_cli.exit_status import ExitStatus
from cyberhost_cli.main import main
from cyberhost_model import CyberHost
from cyberhost_model.conditions.pose_maps import dwpose_map, hand_map
from cyberhost_model.config import GenerationConfig
from cyberhost_model.driving.sequence import PoseSequence
from cyberhost_model.errors import InputError, NoFaceError
from cyberhost_model.media.audio import Sound, load_audio
from cyberhost_model.media.video_reader import probe_video, read_frames, stream_frames
from cyberhost_model.media.video_writer import write_video
from cyberhost_model.perception.detector import WholeBodyDetector, analyse
from cyberhost_model.perception.dwpose import DWPose
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.porting.convert import convert
from cyberhost_model.runtime.loading import load_detector, load_model
from cyberhost_model.runtime.named_job import NamedJob
from cyberhost_model.runtime.pose_source import skeleton_source
from cyberhost_model.runtime.publish import card
from data_helpers import open_hands, voice

QUICK = ["--steps", "2", "--size", "128", "--device", "cpu", "--json"]


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, and HF_HUB_OFFLINE set."""
    for name, value in {
        "HF_HUB_OFFLINE": True,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_CACHE": str(tmp_path / "home/hub"),
    }.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)


@pytest.fixture(scope="session")
def models(published: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Converted as the registry says: with DWPose named."""
    root = tmp_path_factory.mktemp("converted")
    for name in ("animate-anyone", "echomimic-v2"):
        convert(name, root / name, {**parts(published, name), "detector": "dwpose"}, template=small(name))
    return {path.name: path for path in root.iterdir()}


@pytest.fixture(scope="session")
def sound() -> Sound:
    return Sound.from_samples(voice(0.2, 0), 16000)


def run(capsys: pytest.CaptureFixture[str], *command: str | Path) -> dict:
    code = main([*map(str, command), *QUICK])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out)


def swaying(points: Keypoints, frames: int, far: float = 0.05) -> PoseSequence:
    """The person of the picture, further right in every frame."""
    return PoseSequence.of(
        [points.map(lambda p, i=i: (p + [far * i, 0]).astype(np.float32)) for i in range(frames)], 25.0, (512, 512)
    )


def host_of(folder: Path) -> CyberHost:
    return CyberHost.from_pretrained(folder, device="cpu")


def test_animate_anyone_reenacts_a_video(models, offline, portrait_file, picture, sound, tmp_path, capsys):
    """The driving video is read, drawn, followed; its sound is kept, which the network does not hear."""
    shifted = [np.roll(picture, 4 * i, 1) for i in range(5)]
    driving = write_video(iter(shifted), tmp_path / "driving.mp4", 25, sound)
    out = tmp_path / "out.mp4"
    told = run(capsys, "reenact", portrait_file, driving, "-o", out, "--model", models["animate-anyone"])
    frames = list(stream_frames(out, 25.0))
    assert told["frames"] == len(frames) == 5 and frames[0].shape == (128, 128, 3)
    assert load_audio(out).duration == pytest.approx(0.2, abs=0.05)
    fallback = [line for line in told["warnings"] if "embedded detector" in line]
    assert len(fallback) == 1 and ("HF_HUB_OFFLINE is set" in fallback[0] or "cyberhost[face]" in fallback[0])
    assert not any("lips hardly move" in line for line in told["warnings"])  # the embedded detector reads lips


def test_echomimic_speaks_with_a_gesture(models, offline, portrait_file, sound, tmp_path, capsys):
    out, heard = tmp_path / "out.mp4", tmp_path / "speech.mp4"
    write_video((np.zeros((64, 64, 3), np.uint8) for _ in range(5)), heard, 25, sound)
    told = run(
        capsys,
        "multimodal",
        portrait_file,
        "--audio",
        heard,
        "--hands",
        "wave",
        "-o",
        out,
        "--model",
        models["echomimic-v2"],
    )
    assert told["frames"] == len(list(stream_frames(out, 25.0))) == load_audio(heard).n_frames(25.0)
    assert load_audio(out).duration == pytest.approx(load_audio(heard).duration, abs=0.05)
    assert sum("embedded detector" in line for line in told["warnings"]) == 1


def test_several_pictures_are_recorded_and_make_the_same_video_again(
    models, offline, portrait_file, picture, sound, tmp_path, capsys
):
    heard, other, out = tmp_path / "speech.mp4", tmp_path / "other.png", tmp_path / "out.mp4"
    write_video((np.zeros((64, 64, 3), np.uint8) for _ in range(3)), heard, 25, sound)
    cv2.imwrite(str(other), cv2.flip(picture, 1)[..., ::-1])
    command = ["animate", portrait_file, heard, "--ref", other, "--model", models["echomimic-v2"]]
    assert main([*map(str, [*command, "-o", out, "--record", "--size", 128, "--steps", 1, "--json"])]) == 0
    told = json.loads(capsys.readouterr().out)
    record = json.loads(Path(told["record"]).read_text())
    assert [Path(record["inputs"][name]["path"]).name for name in ("ref", "ref 2")] == [portrait_file.name, "other.png"]
    assert main(["rerun", told["record"], "-o", str(tmp_path / "again.mp4"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames_equal"] is True
    other.unlink()
    assert main(["rerun", told["record"], "-o", str(tmp_path / "third.mp4")]) == 3


def test_a_video_of_other_pictures_is_another(portrait_file, picture, tmp_path, host):
    other = tmp_path / "other.png"
    cv2.imwrite(str(other), picture[..., ::-1])
    one = {"picture": portrait_file, "audio": portrait_file}
    facts = [
        NamedJob("animate", {**one, "picture": files}, {}).facts(host) for files in ([portrait_file, other], [other])
    ]
    assert (
        facts[0]["picture 2"] == facts[1]["picture"]
        and NamedJob("animate", one, {}).facts(host).keys() < facts[0].keys()
    )
    with pytest.raises(InputError, match="nothing of further pictures"):
        host.animate([picture, picture], Sound.from_samples(voice(0.2, 0), 16000))


@pytest.mark.parametrize("name", ["animate-anyone", "echomimic-v2"])
def test_a_video_that_was_stopped_goes_on_at_its_step(models, offline, picture, sound, tmp_path, name):
    """Of the windows no step is taken twice, and the frames are those of a video that was not stopped."""
    host = host_of(models[name])
    points = open_hands(analyse(picture, host.model.detector, "the picture").keypoints)

    def save(out: Path, taken: list[int], stop: int | None = None) -> list[str]:
        told: list[str] = []
        if name == "animate-anyone":
            animation = host.reenact(picture, swaying(points, 5), audio=None, steps=4, size=128)
        else:
            animation = host.multimodal(picture, sound, swaying(points, 5), steps=4, size=128)

        def on_step(step: int, steps: int) -> None:
            taken.append(step)
            if step == stop:
                raise KeyboardInterrupt

        animation.on_step = on_step
        animation.save(out, facts={"seed": "0"}, tell=told.append)
        return told

    taken: list[int] = []
    save(tmp_path / "whole.mp4", taken)
    out, state = tmp_path / "out.mp4", tmp_path / ".out.mp4.part"
    for stop in (1, 3):
        with pytest.raises(KeyboardInterrupt) as stopped:
            save(out, taken, stop)
        assert stopped.value.resume_hint == f"the same command goes on after denoising step {stop}"
        assert {path.name for path in state.iterdir()} == {"job.json", ".lock", "steps.safetensors"}
    assert save(out, taken) == ["goes on after denoising step 3 (--no-resume begins anew)"]
    assert taken == [1, 2, 3, 4] * 2
    frames, whole = (np.concatenate(list(read_frames(probe_video(path)))) for path in (out, tmp_path / "whole.mp4"))
    assert np.array_equal(frames, whole) and not state.exists()


def test_what_they_cannot_do_is_an_error_that_names_what_they_can(
    models, offline, portrait_file, speech_file, tmp_path, capsys
):
    for name, command, hint in (
        ("animate-anyone", ["animate", portrait_file, speech_file], "use reenact"),
        ("animate-anyone", ["multimodal", portrait_file, "--audio", speech_file, "--hands", "wave"], "use reenact"),
    ):
        assert main([*map(str, command), "-o", str(tmp_path / "out.mp4"), "--model", str(models[name])]) == 3
        assert hint in capsys.readouterr().err and not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(("name", "draw"), [("animate-anyone", dwpose_map), ("echomimic-v2", hand_map)])
def test_they_are_given_the_drawing_they_know(models, offline, host, picture, name, draw):
    """Frame for frame, and what is drawn changes the video."""
    converted = host_of(models[name])
    poses = swaying(analyse(picture, host.model.detector).keypoints, 3)
    poses.hands_score[:] = 1  # the picture's hands are not all found
    poses.hands[:] = poses.body[:, [7, 4], None] + np.random.default_rng(0).uniform(-0.1, 0.1, (1, 2, 21, 2)).astype(
        np.float32
    )
    reference, _ = converted.open_picture(picture, GenerationConfig(size=128, half_body=False))
    driven = skeleton_source(converted.model.network.preset, reference, poses)(0, 3)
    expected = torch.from_numpy(
        np.stack([draw(reference.on_canvas(poses.frame(i)), reference.canvas.size) for i in range(3)])
    )
    assert driven.shift is None and expected.any() and torch.equal(driven.pose[0], expected.to(driven.pose.dtype))
    still = swaying(poses.frame(0), 3, 0.0)
    sound = None if name == "animate-anyone" else Sound.from_samples(voice(0.12, 0), 16000)
    options = {"audio": sound, "retarget": False, "steps": 2, "size": 128, "half_body": False}
    videos = [np.stack(list(converted.reenact(picture, p, **options).frames)) for p in (poses, still)]
    assert videos[0].shape == videos[1].shape == (3, 128, 128, 3) and not np.array_equal(videos[0][2], videos[1][2])


def test_a_network_that_hears_nothing_makes_the_same_video_with_any_sound(models, offline, host, picture, sound):
    converted = host_of(models["animate-anyone"])
    poses = swaying(analyse(picture, host.model.detector).keypoints, 3)
    silent, loud = (
        np.stack(list(converted.reenact(picture, poses, audio=a, steps=1, size=128).frames)) for a in (None, sound)
    )
    assert np.array_equal(silent, loud)


class Unclipped(WholeBodyDetector):
    """The embedded detector as one that finds people whole, with scores that are no probabilities, as DWPose's are."""

    def __init__(self, detector, gain: float = 2.0) -> None:
        self.detector, self.gain = detector, gain

    def people(self, frame: np.ndarray) -> list[Keypoints]:
        found = (d.keypoints for d in self.detector.detect(frame, people=4))
        return [
            dataclasses.replace(k, face_score=k.face_score * self.gain, body_score=k.body_score * self.gain)
            for k in found
        ]


def test_a_detector_of_whole_people_reads_the_picture_too(host, picture):
    own, other = analyse(picture, host.model.detector), analyse(picture, Unclipped(host.model.detector))
    assert np.array_equal(own.keypoints.face, other.keypoints.face) and other.keypoints.face_score.max() == 1
    nearer = cv2.resize(picture[:384, 32:416], (512, 512))
    two = np.concatenate([picture, nearer], 1)
    found = Unclipped(host.model.detector).detect(two)
    sizes = [d.box[2] - d.box[0] for d in found]
    assert len(sizes) == 2 and sizes[0] > 1.2 * sizes[1] and found[0].box[0] > 512
    with pytest.raises(NoFaceError):
        analyse(picture, Unclipped(host.model.detector, 0.1))  # somebody is there, whose face is not seen


def test_a_model_that_names_dwpose_holds_nothing_of_it(models, offline, published, tmp_path):
    folder = models["animate-anyone"]
    assert [path.name for path in (folder / "detector").iterdir()] == ["config.json"]
    source = next(s for s in json.loads((folder / "sources.json").read_text()) if s["part"] == "detector")
    assert source["from"] == "yzd-v/DWPose" and source["licence"] == "Apache-2.0"
    detector, warnings = load_detector(folder / "detector")
    assert not isinstance(detector, DWPose) and len(warnings) == 1
    convert("animate-anyone", tmp_path / "own", parts(published, "animate-anyone"), template=small("animate-anyone"))
    assert load_detector(tmp_path / "own" / "detector")[1] == [] and load_model(str(tmp_path / "own")).warnings == []


def test_dwpose_that_was_asked_for_is_not_replaced(offline, tmp_path, portrait_file, capsys):
    film = write_video([np.asarray(Image.open(portrait_file).convert("RGB"))] * 2, tmp_path / "film.mp4", 25)
    command = ["template", "extract", str(film), "-o", str(tmp_path / "pose.npz"), "--detector"]
    assert main([*command, "eyes"]) == ExitStatus.USAGE
    capsys.readouterr()
    assert main([*command, "dwpose"]) == ExitStatus.NETWORK
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err.splitlines()[-1] and not (tmp_path / "pose.npz").exists()


def test_a_network_that_takes_arcface_works_without_it_and_says_so(published, offline, picture, tmp_path):
    """ArcFace's weights may be neither shipped nor, on some machines, fetched: then the face is not described."""
    convert("hallo2", tmp_path / "model", portrait_parts(published, "hallo2"), template=small_portrait("hallo2"))
    sources = {s["part"]: s for s in json.loads((tmp_path / "model/sources.json").read_text())}
    assert sources["face"]["commercial"] is False and "non-commercial" in sources["face"]["licence"]
    converted = CyberHost.from_pretrained(tmp_path / "model", device="cpu")
    assert converted.model.network.preset.takes_arcface and any("ArcFace" in line for line in converted.model.warnings)
    reference, warnings = converted.open_picture(picture, GenerationConfig(size=128))
    assert any("ArcFace" in line for line in warnings)
    nobody = converted.model.network.face_tokens(torch.zeros(1, 512, dtype=converted.dtype))
    assert torch.equal(reference.conditions.face_tokens, nobody)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("animate-anyone", "cyberhost reenact ref.png driving.mp4 "),
        ("echomimic-v2", "cyberhost multimodal ref.png --audio speech.wav --hands wave "),
    ],
)
def test_the_card_shows_the_command_that_works(models, name, line):
    text = card(models[name], small(name), "me/mine", "mit")
    assert line + "--model me/mine" in text and "cyberhost animate" not in text
