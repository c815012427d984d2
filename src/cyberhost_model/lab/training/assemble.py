"""Assemble a model folder from the runs of the stages."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from cyberhost_model.codecs.base import Codec, load_codec
from cyberhost_model.config import PRESETS, Preset
from cyberhost_model.errors import ModelError, TrainingError
from cyberhost_model.hub.tensors import read_safetensors
from cyberhost_model.lab.training.codec_init import codec_of_weights
from cyberhost_model.lab.training.detector_init import detector_of_weights
from cyberhost_model.lab.training.init import fill, run_preset
from cyberhost_model.lab.training.recipe import read_sampling
from cyberhost_model.model.checkpoint import load_preset, save_network, with_current_names
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.perception.keypoint_detector import KeypointDetector
from cyberhost_model.perception.lip_reader import LipReader
from cyberhost_model.reading import Unreadable, is_folder, one_line
from cyberhost_model.runtime.loading import find_model
from cyberhost_model.speech.encoder import SpeechEncoder
from cyberhost_model.speech.registry import load_speech
from cyberhost_model.speech.wav2vec2 import TINY, Wav2Vec2Encoder


def averaged_weights(run: str | Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """Read the averaged weights of a run whose names begin with `prefix`, without the prefix.

    Raises TrainingError when there is no checkpoint.
    """
    file = Path(run) / "last" / "ema.safetensors"
    try:
        weights = with_current_names(read_safetensors(file))
    except (OSError, Unreadable) as error:
        raise TrainingError(f"{file}: no checkpoint to take weights from ({one_line(error)})") from error
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _model(name: str | Path) -> Path:
    """Find a model's folder, for a name that is no run. Raises TrainingError when it is neither."""
    try:
        return find_model(str(name))
    except ModelError as error:
        raise TrainingError(f"{name}: no checkpoint to take weights from, and no model ({error})") from error


def trained_codec(run: str | Path) -> Codec:
    """Load the codec of a run of stage codec, or of a model ("tiny", "sd15", a folder).

    Raises TrainingError and ModelError.
    """
    if not is_folder(Path(run) / "last"):
        model = _model(run)
        return load_codec(load_preset(model).codec, model / "codec")
    return codec_of_weights(averaged_weights(run, "codec."), run)


def trained_speech(run: str | Path) -> SpeechEncoder:
    """Load the speech encoder of a run of stage audio, or of a model ("tiny", a folder). Raises TrainingError."""
    if not (Path(run) / "last").is_dir():
        return load_speech(_model(run) / "speech")
    speech = Wav2Vec2Encoder(TINY)
    fill(speech, averaged_weights(run, "encoder."), run)
    return speech.eval()


def trained_detector(run: str | None, lips: str | None, base: Path) -> KeypointDetector:
    """Load the key point detector of a run of stage detector with the lip reader of a run of stage lips.

    base: the folder of the detector that the part without a run comes from. Raises TrainingError where it has no such
    part.
    """
    old = KeypointDetector.from_pretrained(base) if (base / "model.safetensors").is_file() else None
    finder = detector_of_weights(averaged_weights(run), run) if run else old
    if finder is None:
        raise TrainingError(
            f"{lips}: reads lips for the detector of a run, and {base} names another one: give --detector"
        )
    if run:
        finder.lips = None if old is None else old.lips
    if lips:
        finder.lips = LipReader()
        fill(finder.lips, averaged_weights(lips), lips)
    return finder


def assemble(
    out: str | Path,
    *,
    network: str | None = None,
    codec: str | None = None,
    speech: str | None = None,
    detector: str | None = None,
    lips: str | None = None,
    base: str = "tiny",
    recipe: str | None = None,
) -> None:
    """Write the model folder `out` from runs of stages 2 or distill, codec, audio, detector and lips.

    Parts without a run are those of the model `base`, unchanged. The network's preset is the run's own, with the table
    [sampling] of `recipe` (default: the recipe of the preset's name); a distilled network keeps its sampler and number
    of steps. A network works only with the codec and the speech encoder it was trained on: a new network goes with the
    old codec or with one trained `decoder_only`. Raises TrainingError for a run without a checkpoint and ModelError
    when there is no `base`.
    """
    out, old = Path(out), find_model(base)
    # Loaded first: it may fail, and then nothing is written.
    finder = trained_detector(detector, lips, old / "detector") if detector or lips else None
    out.mkdir(parents=True, exist_ok=True)
    if network:
        weights = averaged_weights(network)
        follows = any(name.startswith("pose_to_latent.") for name in weights)
        shape = run_preset(network) or replace(load_preset(old), pose_shift=follows)
        net = CyberHostNetwork(_with_recipes_sampling(shape, recipe))
        fill(net, weights, network)
        save_network(net, out)
    elif out.resolve() != old.resolve():
        for name in ("config.json", "network.safetensors"):
            shutil.copyfile(old / name, out / name)
    if codec:
        trained_codec(codec).save(out / "codec")
    if speech:
        trained_speech(speech).save_pretrained(out / "speech")
    if finder is not None:
        finder.save_pretrained(out / "detector")
    for name, run in (("codec", codec), ("speech", speech), ("detector", detector or lips)):
        if not run and out.resolve() != old.resolve():
            shutil.copytree(old / name, out / name, dirs_exist_ok=True)


def _with_recipes_sampling(shape: Preset, recipe: str | None) -> Preset:
    """`shape` sampled as `recipe` says, by default the recipe of its name.

    A distilled network, and one that began from published weights of another diffusion, keep their own.
    """
    if shape.sampling.distilled:
        return shape
    if recipe is None:
        if shape.name not in PRESETS or shape.diffusion != PRESETS[shape.name].diffusion:
            return shape
        recipe = shape.name
    return replace(shape, sampling=read_sampling(recipe, shape.sampling))
