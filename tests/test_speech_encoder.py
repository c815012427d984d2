"""SpeechEncoder: alignment, level, streaming, files. All with random weights."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from cyberhost_model.config import preset
from cyberhost_model.errors import ModelError
from cyberhost_model.runtime.loading import EMBEDDED
from cyberhost_model.speech.encoder import STEP, frame_windows, window_start
from cyberhost_model.speech.level import SpeechLevel, speech_level
from cyberhost_model.speech.lip_head import LIPS, PredictedLips, keep_closures
from cyberhost_model.speech.phonemes import CLASSES
from cyberhost_model.speech.wav2vec2 import TINY, SpeechConfig, Wav2Vec2Encoder, curves_at_frames

RATE = 16_000
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 8,
}


# The layout of the embedded model's first speech encoder.
CONVOLVED = SpeechConfig(
    wav2vec2={
        **TINY.wav2vec2,
        "conv_dim": [32, 48, 64, 96, 128, 128, 128],
        "conv_bias": True,
        "feat_extract_norm": "layer",
        "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
        "conv_stride": [5, 2, 2, 2, 2, 2, 2],
        "hidden_dropout": 0.0,
    },
    reach=20,
    target=0.1,
    motion_head=True,
)


@pytest.fixture(scope="module")
def tiny() -> Wav2Vec2Encoder:
    torch.manual_seed(0)
    return Wav2Vec2Encoder(TINY).eval()


def test_tiny_fits_its_preset(tiny: Wav2Vec2Encoder) -> None:
    audio = preset("tiny").audio
    assert (tiny.layers, tiny.dim) == (audio.layers, audio.dim)
    assert sum(p.numel() for p in tiny.parameters()) <= 2_500_000
    windows = frame_windows(tiny.features(np.zeros(RATE, np.float32)), 25, 25, audio.tokens)
    assert windows.shape == (25, audio.tokens, audio.layers, audio.dim)


def test_forward_is_transformers_own(tiny: Wav2Vec2Encoder) -> None:
    """Mel bands and both layouts of the convolutions, with attention over the whole window, against Wav2Vec2Model."""
    everywhere = Wav2Vec2Encoder(dataclasses.replace(TINY, reach=None)).eval()
    base = Wav2Vec2Encoder(SpeechConfig(SMALL, None, 1.0, False)).eval()
    convolved = Wav2Vec2Encoder(dataclasses.replace(CONVOLVED, reach=None)).eval()
    for encoder in (everywhere, convolved, base):
        samples = torch.randn(2, 50 * STEP)
        with torch.no_grad():
            states = encoder.model(torch.nn.functional.pad(samples, (40, 40)), output_hidden_states=True).hidden_states
            ours = encoder(samples)
        assert ours.shape == (2, 50, encoder.layers, encoder.dim)
        torch.testing.assert_close(ours, torch.stack(states, 2), atol=2e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def convolved() -> Wav2Vec2Encoder:
    torch.manual_seed(0)
    return Wav2Vec2Encoder(CONVOLVED).eval()


@pytest.mark.parametrize("seconds", [0.013, 0.5, 0.7999, 1.2345, 1.97])
@pytest.mark.parametrize("tokens", [6, 10])
def test_impulse_reaches_the_window_of_its_frame(convolved: Wav2Vec2Encoder, seconds: float, tokens: int) -> None:
    """Through the convolutions of a real encoder: what changes most is in the middle of frame floor(t * 25), and of no
    other.
    """
    still = np.zeros(2 * RATE, np.float32)
    click = still.copy()
    click[int(seconds * RATE)] = 1.0
    model, level = convolved.model, SpeechLevel(0.0, 0.1)

    def steps(samples: np.ndarray) -> torch.Tensor:
        padded = torch.nn.functional.pad(torch.from_numpy(level.normalise(samples, TINY.target))[None], (40, 40))
        with torch.no_grad():
            return model.feature_extractor(padded)[0].T[:, None]

    difference = (steps(click) - steps(still)).norm(dim=-1, keepdim=True)
    changed = difference.flatten().nonzero().flatten().tolist()
    at = int(seconds * RATE)
    assert changed == [k for k in range(100) if STEP * k - 40 <= at < STEP * k + 360]
    middle = frame_windows(difference, 50, 25, tokens)[:, tokens // 2 - 1 : tokens // 2 + 1].amax((1, 2, 3))
    assert int(middle.argmax()) == int(seconds * 25)
    frames = frame_windows(torch.arange(100.0).reshape(-1, 1, 1), 50, 25, tokens).flatten(1)
    hears = [f for f in range(50) if at // STEP in frames[f, tokens // 2 - 1 : tokens // 2 + 1]]
    assert hears == [int(seconds * 25)]


@pytest.mark.parametrize("step", [0, 1, 30, 77, 99])
def test_mel_front_hears_around_a_step(tiny: Wav2Vec2Encoder, step: int) -> None:
    """A click in the middle of a step changes it and six steps to either side; its bands are loudest at the click."""
    click = torch.zeros(1, 100 * STEP + 80)
    click[0, 40 + step * STEP + STEP // 2] = 1.0
    front = tiny.model.feature_extractor
    with torch.no_grad():
        changed = (front(click) - front(click * 0))[0].abs().amax(0) > 0
        bands = front.log_mel(click)[0].mean(1)
    reached = changed.nonzero().flatten().tolist()
    assert reached == [k for k in range(100) if abs(k - step) <= 6]
    assert int(bands.argmax()) // 2 == step and len(bands) == 200


def test_windows_stay_on_time_for_hours_at_any_rate() -> None:
    for fps in (23.976, 24, 25, 29.97, 30, 50):
        for frame in (0, 1, 7, 1000, 5_000_003):
            exact = {23.976: 24000 / 1001, 29.97: 30000 / 1001}.get(fps, fps)
            centre = (window_start(frame, fps, 6) + 3) / 50
            assert abs(centre - (frame + 0.5) / exact) <= 0.0101 or fps in (23.976, 29.97) and frame > 10_000
    assert [window_start(f, 25, 6) for f in (0, 1, 2)] == [-2, 0, 2]


def test_edges_repeat() -> None:
    features = torch.arange(4.0).reshape(4, 1, 1)
    assert frame_windows(features, 2, 25, 6).flatten(1).tolist() == [[0, 0, 0, 1, 2, 3], [0, 1, 2, 3, 3, 3]]
    with pytest.raises(ValueError, match="at least one step"):
        frame_windows(features[:0], 1, 25, 6)


def test_level_is_gain_invariant_and_leaves_silence() -> None:
    rng = np.random.default_rng(0)
    bursts = np.where(rng.random(30) > 0.4, 0.2, 0.002)
    speech = (rng.standard_normal(3 * RATE) * np.repeat(bursts, 1600)).astype(np.float32)
    loud, quiet = speech_level([speech + 0.01]), speech_level([speech * 0.1 + 0.01])
    assert loud.rms == pytest.approx(0.2, rel=0.02) and quiet.rms == pytest.approx(0.02, rel=0.02)
    np.testing.assert_allclose(loud.normalise(speech + 0.01, 0.1), quiet.normalise(speech * 0.1 + 0.01, 0.1), atol=2e-4)
    parts = np.array_split(speech, 7)
    assert speech_level(parts).rms == pytest.approx(speech_level([speech]).rms, rel=1e-6)
    hum = (rng.standard_normal(3 * RATE) * 0.1).astype(np.float32)  # steady noise alone
    assert np.sqrt(np.mean(speech_level([hum]).normalise(hum, 0.1) ** 2)) < 0.005
    hiss = (rng.standard_normal(RATE) * 1e-4).astype(np.float32)  # -80 dBFS
    assert np.sqrt(np.mean(speech_level([hiss]).normalise(hiss, 0.1) ** 2)) < 0.005
    dead = np.zeros(RATE, np.float32)
    assert not speech_level([dead]).normalise(dead, 0.1).any()
    assert speech_level([]).rms == 0 and speech_level([np.ones(10, np.float32)]).rms == 0


def test_features_do_not_depend_on_gain(tiny: Wav2Vec2Encoder) -> None:
    samples = (np.random.default_rng(1).standard_normal(RATE) * np.linspace(0, 0.3, RATE)).astype(np.float32)
    torch.testing.assert_close(tiny.features(samples), tiny.features(samples * 0.2), atol=1e-3, rtol=1e-3)


def test_stream_equals_one_window(tiny: Wav2Vec2Encoder) -> None:
    """20 s and a bit, in odd blocks: two windows give what one over everything gives."""
    samples = (np.random.default_rng(2).standard_normal(20 * RATE + 777) * 0.1).astype(np.float32)
    level = speech_level([samples])
    pieces = list(tiny.stream(np.array_split(samples, 13), level))
    assert [len(p) for p in pieces] == [800, 203]
    whole = np.pad(level.normalise(samples, TINY.target), (0, -len(samples) % STEP))
    with torch.no_grad():
        once = tiny(torch.from_numpy(whole)[None])[0]
    torch.testing.assert_close(torch.cat(pieces), once, atol=1e-4, rtol=1e-3)
    windows = list(tiny.stream_windows(np.array_split(samples, 5), level, 502, 25, 6))
    torch.testing.assert_close(torch.stack(windows), frame_windows(torch.cat(pieces), 502, 25, 6))


def test_short_and_empty_sounds(tiny: Wav2Vec2Encoder) -> None:
    assert tiny.features(np.zeros(0, np.float32)).shape == (0, 5, 128)
    assert tiny.features(np.ones(1, np.float32)).shape == (1, 5, 128)
    assert len(list(tiny.stream_windows([np.zeros(800, np.float32)], SpeechLevel(0, 0.1), 2, 25, 6))) == 2
    assert len(tiny.predict_motion(np.zeros(800, np.float32)).opening) == 2


def test_gradients_reach_every_weight() -> None:
    encoder = Wav2Vec2Encoder(TINY)
    assert encoder.motion_head is not None and encoder.lip_head is not None
    features = encoder(torch.randn(1, 20 * STEP))
    (encoder.motion_head(features).square().sum() + encoder.lip_head(features).square().sum()).backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_lips_of_every_frame(tiny: Wav2Vec2Encoder) -> None:
    lips = tiny.predict_lips((np.random.default_rng(4).standard_normal(RATE) * 0.1).astype(np.float32), 30)
    assert lips.gap.shape == lips.width.shape == lips.closure.shape == lips.tuck.shape == lips.protrusion.shape == (30,)
    assert lips.phonemes.shape == (30, len(TINY.phonemes)) and np.allclose(lips.phonemes.sum(1), 1, atol=1e-5)
    assert lips.gap.min() >= 0 and 0 <= lips.closure.min() and lips.closure.max() <= 1


def outputs_of(steps: int, **values: float) -> np.ndarray:
    """Outputs of the lip head in which nothing but `values` is likely: names of LIPS or of classes."""
    out = np.zeros((steps, len(LIPS) + len(CLASSES)), np.float32)
    out[:, LIPS.index("closure")] = -9
    for name, value in values.items():
        out[:, LIPS.index(name) if name in LIPS else len(LIPS) + CLASSES.index(name)] = value
    return out


def test_a_likely_closure_closes_the_lips() -> None:
    def gap(**values: float) -> float:
        return float(PredictedLips.from_head(outputs_of(1, gap=0.8, **values)).gap[0])

    assert gap() == pytest.approx(0.8, abs=0.01)
    assert gap(closure=9.0) == gap(m=12.0) == 0  # by its own logit, or by the phoneme
    assert 0.3 < gap(closure=-0.2) < 0.7


def test_lips_rest_in_a_pause_and_not_between_two_words() -> None:
    for silent, rests in ((30, True), (8, False)):
        spoken = outputs_of(20, gap=0.8, width=0.5, a=9.0)
        pause = outputs_of(silent, gap=0.8, width=0.5, sil=9.0)
        lips = PredictedLips.from_head(np.concatenate([spoken, pause, spoken]))
        middle = 20 + silent // 2
        assert lips.gap[5] == pytest.approx(0.8, abs=0.01)
        assert (lips.gap[middle] == lips.width[middle] == 0) == rests


def test_a_closure_of_one_step_is_not_lost_between_two_frames() -> None:
    steps = outputs_of(20, gap=0.8)
    for at in range(4, 12):
        one = steps.copy()
        one[at, LIPS.index("closure")] = 9
        frames = PredictedLips.from_head(curves_at_frames(keep_closures(one), 20 * STEP, 25))
        assert frames.gap.min() < 0.05


def test_old_folders_still_load(tmp_path) -> None:
    """A config.json without entries of mel bands and phonemes: convolutions, and no lip head."""
    Wav2Vec2Encoder(CONVOLVED).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["mels"], config["phonemes"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoder = Wav2Vec2Encoder.from_pretrained(tmp_path)
    assert len(encoder.predict_motion(np.zeros(1600, np.float32)).opening) == 3
    with pytest.raises(ModelError, match="no lip head"):
        encoder.predict_lips(np.zeros(1600, np.float32))


def test_the_embedded_encoder_is_the_one_that_stage_audio_trains() -> None:
    encoder = Wav2Vec2Encoder.from_pretrained(EMBEDDED / "tiny" / "speech")
    assert encoder.config == TINY
    lips = encoder.predict_lips(np.zeros(2 * RATE, np.float32))
    assert lips.gap.max() < 1e-3 and not lips.closure.any() and np.abs(lips.width).max() < 1e-3


def test_save_and_load(tiny: Wav2Vec2Encoder, tmp_path) -> None:
    tiny.save_pretrained(tmp_path, torch.float32)
    again = Wav2Vec2Encoder.from_pretrained(tmp_path)
    samples = (np.random.default_rng(3).standard_normal(8000) * 0.1).astype(np.float32)
    torch.testing.assert_close(again.features(samples), tiny.features(samples), rtol=0, atol=0)
    tiny.save_pretrained(tmp_path)
    half = Wav2Vec2Encoder.from_pretrained(tmp_path)
    torch.testing.assert_close(half.features(samples), tiny.features(samples), atol=0.02, rtol=0.02)

    config = json.loads((tmp_path / "config.json").read_text())
    config["wav2vec2"]["hidden_size"] = 64
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="no usable speech encoder"):
        Wav2Vec2Encoder.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no usable speech encoder"):
        Wav2Vec2Encoder.from_pretrained(tmp_path)


def test_wav2vec2_of_transformers_loads_strictly(tmp_path) -> None:
    """The layout of facebook/wav2vec2-base-960h (a CTC model), small."""
    ctc = Wav2Vec2ForCTC(Wav2Vec2Config(**SMALL)).eval()
    ctc.save_pretrained(tmp_path / "whole")
    encoder = Wav2Vec2Encoder.from_pretrained(tmp_path / "whole")
    assert (encoder.layers, encoder.dim, encoder.motion_head) == (3, 32, None)
    samples = torch.randn(1, 20 * STEP)
    with torch.no_grad():
        expected = ctc.wav2vec2(torch.nn.functional.pad(samples, (40, 40))).last_hidden_state
        torch.testing.assert_close(encoder(samples)[:, :, -1], expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(ModelError, match="no motion head"):
        encoder.predict_motion(np.zeros(100, np.float32))

    state = {k: v for k, v in ctc.state_dict().items() if "layers.1.attention.k_proj" not in k}
    ctc.save_pretrained(tmp_path / "holes", state_dict=state)
    with pytest.raises(ModelError, match="missing or unknown"):
        Wav2Vec2Encoder.from_pretrained(tmp_path / "holes")


def test_folder_without_a_model_is_refused(tmp_path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        Wav2Vec2Encoder.from_pretrained(tmp_path)
