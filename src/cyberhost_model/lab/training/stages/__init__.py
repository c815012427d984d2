"""The stages of training, a file each. Importing this package registers them."""

from cyberhost_model.lab.training.stages import audio, clip, codec, detector, distill, hear, lips, person, pose

__all__ = ["audio", "clip", "codec", "detector", "distill", "hear", "lips", "person", "pose"]
