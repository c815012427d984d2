"""Speed and memory of this project beside plain diffusers and the peers' own code: `python -m benchmarks --help`."""
