"""From the runs of the five stages to a model folder."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..conditions.detector import KeypointDetector
from ..conditions.speech import TINY, SpeechEncoder
from ..errors import TrainingError
from ..model.codec import ReferenceCodec
from ..model.cyberhost import CyberHostNetwork
from ..model_folder import Model, save_model
from ..presets import preset


def part(run: str | Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """The EMA weights of a run whose names begin with `prefix`, without it. Raises TrainingError when there is no checkpoint."""
    file = Path(run) / "last" / "ema.safetensors"
    try:
        weights = load_file(file)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{file}: no checkpoint to take weights from ({error})") from error
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def trained_codec(run: str | Path) -> ReferenceCodec:
    """The codec of a run of stage codec."""
    codec = ReferenceCodec()
    codec.load_state_dict(part(run, "codec."))
    return codec.eval()


def trained_speech(run: str | Path) -> SpeechEncoder:
    """The speech encoder of a run of stage audio."""
    speech = SpeechEncoder(TINY)
    speech.load_state_dict(part(run, "encoder."))
    return speech.eval()


def assemble(out: str | Path, *, codec: str, speech: str, detector: str, network: str) -> None:
    """Write the model folder `out` from the runs of stages codec, audio, detector and 2."""
    net, finder = CyberHostNetwork(preset("tiny")), KeypointDetector()
    net.load_state_dict(part(network))
    finder.load_state_dict(part(detector))
    save_model(Model(net, trained_codec(codec), trained_speech(speech), finder), out)
