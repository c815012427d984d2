"""Published weights and models on the Hub: where they are, how they are fetched, how a model is uploaded.

from cyberhost_model.hub import locate
locate("syncnet_v2.model")      # a file; fetched, checked and cached when it is not on this machine
"""

from cyberhost_model.hub.locate import locate
from cyberhost_model.hub.progress import Reporter, reporting
from cyberhost_model.hub.registry import REGISTRY, Weights

__all__ = ["REGISTRY", "Reporter", "Weights", "locate", "reporting"]
