"""Ids of the protocols. A value is comparable with another one only under the same id; a table column never mixes them."""

PROTOCOL = "cyberhost-eval-1"
"""The public networks (docs/evaluation.md)."""

PROTOCOL_EMBEDDED = "cyberhost-eval-1-embedded"
"""CSIM, AKD, HKC and HKV with the detector and face encoder that come with the embedded model."""

METRICS = ("SSIM", "PSNR", "FID", "FVD", "CSIM", "SyncC", "SyncD", "AKD", "HKC", "HKV")
"""The headline metrics in the order of the paper's tables."""
