"""Picture, sound and video files -> arrays."""

from cyberhost_model.inputs.audio import Sound, load_audio
from cyberhost_model.inputs.image import Canvas, check_picture, crop_back, fit_canvas, load_picture, place

__all__ = ["Canvas", "Sound", "check_picture", "crop_back", "fit_canvas", "load_audio", "load_picture", "place"]
