"""Loading a model, preparing a picture, and rendering videos."""
