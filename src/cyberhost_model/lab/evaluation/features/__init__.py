"""Features of frames and sound, extracted once for all metrics."""
