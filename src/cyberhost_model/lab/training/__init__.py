"""Training: one loop, a stage for each part of the model, from a recipe to a model folder."""
