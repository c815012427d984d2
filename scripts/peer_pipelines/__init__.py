"""Peers' whole pipelines at small widths, and the same videos by this library: a file a family, for pipeline_parity.py.

Each file has `STEPS` (peer -> the steps of its own program), `write_inputs`, which this process calls first, `make` and
`list_names`, which the peer's process calls, and `ours`.
"""
