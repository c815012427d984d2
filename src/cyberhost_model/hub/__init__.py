"""Weights of others and models on the Hub: where they are, how they get here, and how a model of ours gets there.

from cyberhost_model.hub import locate
locate("syncnet_v2.model")      # a file; fetched, checked and cached when it is not on this machine
"""

from cyberhost_model.hub.locate import locate
from cyberhost_model.hub.progress import Report, reporting
from cyberhost_model.hub.registry import REGISTRY, Weights

__all__ = ["REGISTRY", "Report", "Weights", "locate", "reporting"]
