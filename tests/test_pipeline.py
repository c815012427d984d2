"""The embedded model from picture and speech to frames."""

import dataclasses
import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cyberhost_model
from cyberhost_model import CyberHost, InputError, ModelError, NoFaceError, ResourceError
from cyberhost_model.config import GenerationConfig, preset
from cyberhost_model.device import choose_device, multiplies_bf16
from cyberhost_model.media.audio import Sound
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.runtime import pipeline
from cyberhost_model.runtime.loading import find_model, load_model, save_model
from cyberhost_model.runtime.prepare import head_crop, prepare_reference
from data_helpers import voice

EXAMPLES = Path(__file__).parents[1] / "examples"
RATE = 16000


def sound(seconds: float, seed: int = 0) -> Sound:
    return Sound.from_samples(voice(seconds, seed), RATE)


def test_frames_cover_the_sound_in_the_pictures_aspect(host, picture):
    part = picture[:, 60:440]
    made = host.animate(part, sound(0.7), steps=1, size=256)
    frames = list(made.frames)
    assert len(frames) == made.n_frames == 18
    assert frames[0].dtype == np.uint8 and frames[0].shape == (made.size[1], made.size[0], 3)
    w, h = made.size
    assert w % 2 == h % 2 == 0 and abs(w / h - part.shape[1] / part.shape[0]) < 1.5 / h


def test_the_same_seed_gives_the_same_video(host, picture):
    runs = [list(host.animate(picture, sound(0.2), steps=2, size=256, seed=s).frames) for s in (4, 4, 5)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_more_steps_than_a_distilled_model_learnt_are_told_of(host, picture):
    learnt = host.model.network.preset.sampling.steps
    told = [host.animate(picture, sound(0.2), steps=steps, size=256).warnings for steps in (None, learnt, learnt + 1)]
    assert [any("learnt to do with 2 steps" in line for line in lines) for lines in told] == [False, False, True]


def test_opening_a_picture_keeps_no_gradients(host, picture, monkeypatch):
    asked, analyse = [], pipeline.analyse
    monkeypatch.setattr(
        pipeline, "analyse", lambda *given: asked.append(torch.is_inference_mode_enabled()) or analyse(*given)
    )
    host.open_picture(picture, GenerationConfig())
    assert asked == [True]


def test_the_person_stays_and_the_background_stands(host, picture):
    """Frames resemble the picture: the model moves it and does not repaint it."""
    made = host.animate(picture, sound(0.48), size=256, seed=1)  # a seed of little movement
    frames = np.stack(list(made.frames)).astype(float)
    still = np.asarray(__import__("PIL.Image").Image.fromarray(picture).resize(made.size), float)
    assert np.abs(frames - still).mean() < 10
    assert np.abs(frames[:, :20, :60] - still[:20, :60]).mean() < 3


@pytest.fixture(scope="module")
def talk(host) -> np.ndarray:
    """Three clips of the astronaut speaking, by the embedded model as it is."""
    spoken = host.animate(EXAMPLES / "astronaut.jpg", EXAMPLES / "speech.wav", size=256)
    return np.stack(list(itertools.islice(spoken.frames, 36))).astype(float)


def test_clips_continue_where_the_previous_one_ended(talk):
    """Frames do not jump where two clips meet."""
    change = np.abs(np.diff(talk, axis=0)).mean((1, 2, 3))
    inside = np.delete(change, np.s_[11::12])
    assert change[11::12].mean() < 1.8 * inside.mean()


def test_speech_moves_the_mouth_and_silence_rests_it(host, picture):
    """With the same seed and the body in place, the mouth moves more with speech than in silence."""
    found = host.model.detector.detect(picture)[0].keypoints.face[60:68] * 256
    (x0, y0), (x1, y1) = (found.min(0) - 3).astype(int), (found.max(0) + 5).astype(int)

    def liveliness(audio: Sound | Path) -> float:
        frames = host.animate(EXAMPLES / "astronaut.jpg", audio, size=256, steps=2, body_movement=0).frames
        mouths = np.stack([frame[y0:y1, x0:x1] for frame in itertools.islice(frames, 24)]).astype(float)
        return float(np.abs(np.diff(mouths, axis=0)).mean())

    silence = Sound.from_samples(np.zeros(2 * RATE, np.float32), RATE)
    assert liveliness(EXAMPLES / "speech.wav") > 2 * liveliness(silence)


def test_frames_are_made_one_clip_at_a_time(host, picture):
    """A video of ten minutes starts at once."""
    long = Sound.from_samples(np.tile(voice(6), 100), RATE)
    made = host.animate(picture, long, steps=1, size=256)
    assert made.n_frames == 15000
    assert next(made.frames).shape[2] == 3


def test_silent_and_very_short_sounds(host, picture):
    assert (
        len(
            list(
                host.animate(
                    picture, Sound.from_samples(np.zeros(RATE // 2, np.float32), RATE), steps=1, size=256
                ).frames
            )
        )
        == 13
    )
    assert len(list(host.animate(picture, Sound.from_samples(voice(0.05), RATE), steps=1, size=256).frames)) == 2


def test_any_rate_and_any_number_of_channels(host, picture):
    eight = Sound.from_samples(np.repeat(voice(1)[::2, None], 8, 1), RATE // 2)
    assert len(list(host.animate(picture, eight, steps=1, size=256).frames)) == 25


def test_a_picture_without_a_face_is_refused(host):
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    with pytest.raises(NoFaceError, match="no face found"):
        host.animate(noise, sound(0.5))


def test_impossible_requests_are_refused(host, picture):
    with pytest.raises(InputError, match="fps"):
        host.animate(picture, sound(0.5), fps=0)
    with pytest.raises(ModelError, match="no model 'huge'"):
        CyberHost.from_pretrained("huge")
    with pytest.raises(ResourceError, match="precision"):
        choose_device("cpu", "int4")


def test_head_crop_keeps_the_points_on_the_face(picture, host):
    keypoints: Keypoints = host.model.detector.detect(picture)[0].keypoints
    part, moved = head_crop(picture, keypoints)
    assert part.shape[0] == part.shape[1] < min(picture.shape[:2])
    x, y = (moved.face[30] * part.shape[0]).astype(int)
    u, v = (keypoints.face[30] * [picture.shape[1], picture.shape[0]]).astype(int)
    assert np.abs(part[y, x].astype(int) - picture[v, u]).max() < 60
    assert moved.hands_score.max() == 0


def test_a_model_folder_round_trip(tmp_path, host, picture):
    save_model(load_model("tiny"), tmp_path / "copy")
    again = CyberHost.from_pretrained(tmp_path / "copy", device="cpu", precision="fp32")
    a = list(host.animate(picture, sound(0.1), steps=2, size=256).frames)
    b = list(again.animate(picture, sound(0.1), steps=2, size=256).frames)
    assert np.array_equal(a, b)
    (tmp_path / "copy/network.safetensors").write_bytes(b"xx")
    with pytest.raises(ModelError, match="damaged"):
        load_model(str(tmp_path / "copy"))


def test_the_embedded_model_is_small_and_safe():
    folder = find_model("tiny")
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert {p.suffix for p in files} <= {".json", ".safetensors", ".md"}
    assert sum(p.stat().st_size for p in files) < 80e6


def test_the_library_has_no_terminal_in_it():
    """cyberhost_model imports neither typer nor rich, and errors and readers do not wait for torch."""
    sources = Path(cyberhost_model.__file__).parent.rglob("*.py")
    assert not [p for p in sources if re.search(r"^\s*(import|from) (typer|rich)\b", p.read_text(), re.M)]
    code = (
        "import sys, cyberhost_model.media.image, cyberhost_model.errors; assert not {'torch', 'typer'} & "
        "set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_guidance_changes_the_result(host, picture):
    plain = list(
        host.animate(picture, sound(0.3), steps=2, size=256, guidance_audio=1.0, guidance_reference=1.0).frames
    )
    strong = list(
        host.animate(picture, sound(0.3), steps=2, size=256, guidance_audio=3.0, guidance_reference=1.0).frames
    )
    assert torch.tensor(np.stack(plain)).ne(torch.tensor(np.stack(strong))).any()


def test_latents_that_are_not_finite_make_no_black_frames(host, picture):
    """Activations can exceed the range of fp16."""
    job = host.animate(picture, sound(0.4), size=256).job
    z = job.reference.latent[:, None].repeat(1, 2, 1, 1, 1)
    assert host.renderer.decode(job, z, 2).shape[0] == 2
    z[0, 1, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError, match="latents are not finite in float32: its weights are damaged"):
        host.renderer.decode(job, z, 2)
    with pytest.raises(ModelError, match="latents are not finite in float16: give --precision bf16 or fp32"):
        dataclasses.replace(host.renderer, dtype=torch.float16).decode(job, z, 2)


def test_half_precision_is_the_models(monkeypatch):
    """The embedded model's is bf16, with the range of fp32; on a GPU without bf16 it is fp32."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, dtype in (((9, 0), torch.bfloat16), ((7, 5), torch.float32)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, capability=capability: capability)
        assert choose_device("cuda", "auto", preset("tiny")) == (torch.device("cuda"), dtype)
    assert choose_device("cuda", "auto", preset("sd15"))[1] is torch.float16
    assert choose_device("cuda", "fp16", preset("tiny"))[1] is torch.float16


def test_a_cpu_with_units_for_bf16_uses_them(monkeypatch):
    """AMX counts only where the system grants it; a precision that is asked for is kept."""
    for there, granted in ((True, True), (True, False), (False, True)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda there=there: there)
        monkeypatch.setattr(torch.cpu, "_init_amx", lambda granted=granted: granted)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        assert multiplies_bf16() is (there and granted)
        assert choose_device("cpu", "auto")[1] is (torch.bfloat16 if there and granted else torch.float32)
        assert choose_device("cpu", "fp32")[1] is torch.float32


@pytest.mark.parametrize(
    ("name", "vectors", "quicker"),
    [("AMD EPYC", True, True), ("AMD EPYC", False, False), ("Intel(R) Xeon(R) Gold 6348H", True, False)],
)
def test_vectors_of_bf16_count_on_amd_alone(name, vectors, quicker, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: vectors)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": name})
    assert multiplies_bf16() is quicker
    assert choose_device("cpu", "auto")[1] is (torch.bfloat16 if quicker else torch.float32)


@pytest.mark.parametrize("units", [True, False])
def test_a_cpu_without_units_for_bf16_says_what_it_costs(units, monkeypatch):
    """Once, however often the model is moved; what `auto` takes is never warned of."""
    monkeypatch.setattr("cyberhost_model.device.multiplies_bf16", lambda: units)
    cpu, model = torch.device("cpu"), load_model("tiny")
    model.to(cpu, choose_device("cpu", "auto")[1])
    assert not model.warnings
    for _ in range(2):
        model.to(cpu, torch.bfloat16)
    assert [("bf16" in line and "ten times" in line) for line in model.warnings] == ([] if units else [True])


@pytest.mark.parametrize(
    ("picture_size", "size", "video_size"),
    [
        ((512, 512), None, (512, 512)),
        ((512, 512), 384, (384, 384)),
        ((512, 512), 100, (256, 256)),
        ((300, 300), None, (256, 256)),  # not enlarged
        ((400, 400), None, (512, 512)),  # enlarged, because it would get soft
        ((400, 400), 384, (384, 384)),
        ((640, 640), None, (640, 640)),
        ((2000, 2000), None, (768, 768)),
        ((600, 800), 384, (360, 480)),
    ],
)
def test_a_video_is_as_large_as_it_is_asked_for_in_quarters(host, picture, picture_size, size, video_size):
    array = np.asarray(Image.fromarray(picture).resize(picture_size))
    keypoints = host.model.detector.detect(array)[0].keypoints
    reference = prepare_reference(host.model, array, keypoints, size, head=False)
    assert reference.video_size == video_size
    w, h = reference.large_canvas.size
    assert reference.large.shape == (1, 3, h, w) and reference.large.dtype is torch.float32
