"""One file a published model: its names -> ours."""
