"""What was measured, as JSON and as Markdown with ratios."""

from __future__ import annotations

from typing import Any

OURS, WINDOWS, PLAIN = "ours", "ours, as EchoMimicV2", "plain diffusers"


def ratios(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Medians of ours against the lower bound, against the quicker peer, and of the whole job against what its parts
    take; only those that were measured.
    """
    found: dict[str, Any] = {}
    ours, plain = results.get(OURS, {}), results.get(PLAIN, {})
    peers = [parts for label, parts in results.items() if not label.startswith((OURS, PLAIN))]
    for part, one in ours.items():
        if part in plain:
            found[f"{part}, of plain diffusers'"] = one["median"] / plain[part]["median"]
        if quick := [parts[part]["median"] for parts in peers if part in parts]:
            found[f"{part}, of the quicker peer's"] = one["median"] / min(quick)
    windowed, same = (results.get(label, {}).get("job") for label in (WINDOWS, "EchoMimicV2"))
    if windowed and same:
        found["job in overlapping windows, of EchoMimicV2's"] = windowed["median"] / same["median"]
    return found


def job_overhead(ours: dict[str, Any], size: dict[str, Any]) -> float | None:
    """Wall time of our whole job against its denoising and decoding alone."""
    step = next((ours[part] for part in ours if part.startswith(f"step, {size['branches'][0]} ")), None)
    if step is None or "job" not in ours or "decode" not in ours:
        return None
    clips = -(-size["job_frames"] // size["frames"])
    decoding = ours["decode"]["median"] * size["job_frames"] / size["decoded"]
    return ours["job"]["median"] / (clips * size["job_steps"] * step["median"] + decoding)


def markdown(report: dict[str, Any]) -> str:
    """A table of seconds (median; quickest to slowest), one of ratios, and what the figures are of."""
    size, results = report["size"], report["results"]
    h, w = size["latent"]
    lines = [
        f"Size {size['name']}: widths {', '.join(map(str, size['widths']))}, latent {h}x{w}, {size['frames']} frames, "
        f"{report['precision']}, "
        f"{report['device']}, torch {report['torch']}. Decoding: {size['decoded']} frames. Job: picture and sound to "
        f"an mp4 of {size['job_frames']} frames, "
        f"{size['job_steps']} steps, {size['branches'][0]} branch(es), models loaded. Seconds: {report['clock']}.",
        "",
        "| Part | Implementation | seconds | from - to | times | peak MB |",
        "|---|---|---:|---|---:|---:|",
    ]
    parts = list(dict.fromkeys(part for measured in results.values() for part in measured))
    for part in parts:
        for label, measured in results.items():
            if one := measured.get(part):
                since = "*" if one["peak_since_start"] else ""
                spread = f"{one['quickest']:.3g} - {one['slowest']:.3g}"
                lines.append(
                    f"| {part} | {label} | {one['median']:.3g} | {spread} | {one['times']} | "
                    f"{one['peak_mb']:.0f}{since} |"
                )
    if any(one["peak_since_start"] for measured in results.values() for one in measured.values()):
        lines += ["", "* the most since the process began: this system does not forget earlier peaks"]
    lines += ["", "| Median of ours against | ratio |", "|---|---:|"]
    lines += [f"| {name} | {value:.2f} |" for name, value in report["ratios"].items()]
    for label, reason in report["broken"].items():
        lines.append(f"\n{label} could not be measured: {reason}")
    return "\n".join(lines) + "\n"
