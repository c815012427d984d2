"""Weights of others and models on the Hub: where they are, how they get here, and how a model of ours gets there.

    from cyberhost_model.hub import locate
    locate("syncnet_v2.model")      # a file; fetched, checked and cached when it is not on this machine
"""

from .locate import locate
from .registry import REGISTRY, Weights
from .report import Report, reporting

__all__ = ["REGISTRY", "Report", "Weights", "locate", "reporting"]
