"""Each module has `parts(size, device, dtype, inputs, **options) -> {part: call}`; it loads, and each call does that
part once.
"""
