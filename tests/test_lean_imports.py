"""The embedded model is loaded without the libraries that it does not need."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from cyberhost_cli.lean_imports import OPTIONAL, import_networks

import_networks()
from cyberhost_model import CyberHost

CyberHost.from_pretrained("tiny", device="cpu")
heavy = {"torch._dynamo", "torch.distributed.tensor", "sympy", *OPTIONAL} & set(sys.modules)
heavy |= {f"cyberhost_model.{room}" for room in ("lab", "porting", "driving", "doctor")} & set(sys.modules)
heavy |= {"diffusers.models.transformers.ace_step_transformer"} & set(sys.modules)
if type(sys.modules["transformers"]).__name__ != "_Postponed":
    heavy.add("the list of all models of transformers")
import scipy.signal
import torch
from diffusers.models.transformers import FluxTransformer2DModel
from transformers import CLIPVisionModelWithProjection, Wav2Vec2Model
from transformers.models.wav2vec2 import modeling_wav2vec2

assert issubclass(FluxTransformer2DModel, torch.nn.Module) and CLIPVisionModelWithProjection.base_model_prefix
assert Wav2Vec2Model is modeling_wav2vec2.Wav2Vec2Model
assert torch._dynamo.eval_frame and scipy.signal.resample_poly and torch.distributed.is_available()
sys.exit(f"loaded: {sorted(heavy)}" if heavy else 0)
"""


def test_no_more_is_loaded_than_the_embedded_model_needs() -> None:
    """Neither optional libraries, the compiler and what they load, nor rooms of ours that a video does not need;
    afterwards all are there for whoever needs them."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
