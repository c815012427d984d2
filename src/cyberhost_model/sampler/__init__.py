"""From noise to the latents of a clip."""
