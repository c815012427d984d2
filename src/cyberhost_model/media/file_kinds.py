"""Kinds of video files that are written, by suffix: what goes into each, and ffmpeg's arguments for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
"""The rates AAC has."""
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
CRF = 16
"""Visually lossless for H.264 at this size."""
VP9_CRF = 18
_AAC, _OPUS = ("aac", "-b:a", "192k"), ("libopus", "-b:a", "128k")


@dataclass(frozen=True)
class FileKind:
    """What goes into files of a suffix."""

    sound: tuple[str, ...]
    """ffmpeg's encoder, and its options."""
    rates: tuple[int, ...]
    """Those the encoder takes, in Hz, rising."""
    subtitles: Mapping[str, str]
    """Format of a file of subtitles (`media.subtitles`) -> encoder of its track."""
    at_end: tuple[str, ...] = ()
    """Options of the container."""
    alpha: str | None = None
    """Codec whose pictures have an alpha channel: "vp9" or "prores"; None: no codec that players read here has one."""


_MP4 = FileKind(_AAC, AAC_RATES, dict.fromkeys(("srt", "webvtt", "ass"), "mov_text"), ("-movflags", "+faststart"))
KINDS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": FileKind(_MP4.sound, _MP4.rates, _MP4.subtitles, _MP4.at_end, "prores"),
    ".mkv": FileKind(_AAC, AAC_RATES, {"srt": "srt", "webvtt": "webvtt", "ass": "ass"}),
    ".webm": FileKind(_OPUS, OPUS_RATES, dict.fromkeys(("srt", "webvtt", "ass"), "webvtt"), alpha="vp9"),
}
"""Suffix -> kind of file."""


def encoded_rate(rate: int, rates: tuple[int, ...]) -> int:
    """Choose the rate that a sound of `rate` Hz is resampled to: the next of `rates` above, or the highest."""
    return next((r for r in rates if r >= rate), rates[-1])


def segment_suffix(suffix: str, alpha: bool) -> str:
    """Name the kind of file for segments of a video (`media.segments`): one that has its codec."""
    return suffix if alpha or suffix == ".webm" else ".mp4"


def video_arguments(suffix: str, alpha: bool, crf: int = CRF) -> list[str]:
    """Build ffmpeg's arguments for the pictures of a file: H.264, or VP9 in .webm, or with `alpha` ProRes 4444 in .mov.

    crf: of H.264.
    """
    if suffix == ".webm":
        codec = ["-c:v", "libvpx-vp9", "-crf", str(VP9_CRF), "-b:v", "0", "-deadline", "good", "-cpu-used", "4"]
        # Alternate reference frames have no alpha.
        return _as_bt709("yuva420p" if alpha else "yuv420p") + codec + (["-auto-alt-ref", "0"] if alpha else [])
    if alpha:
        return [*_as_bt709("yuva444p10le"), "-c:v", "prores_ks", "-profile:v", "4444", "-alpha_bits", "16"]
    return h264_arguments(crf)


def h264_arguments(crf: int, preset: str = "medium") -> list[str]:
    """Build ffmpeg's arguments for H.264 in yuv420p, tagged BT.709; preset: x264's, how much work it takes."""
    codec = ["-c:v", "libx264", "-preset", preset, "-crf", str(crf)]
    # Headers that do not depend on the frames, so that segments can be put behind each other (`media.segments`).
    return [*_as_bt709("yuv420p"), *codec, "-x264-params", "stitchable=1"]


def _as_bt709(pixels: str) -> list[str]:
    # RGB is turned into BT.709 and the stream says so; without this ffmpeg would take BT.601 and tag nothing.
    convert = "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int"
    tags = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
    arguments = ["-vf", f"{convert},format={pixels},{tags}", "-colorspace", "bt709", "-color_primaries", "bt709"]
    return [*arguments, "-color_trc", "bt709", "-color_range", "tv"]
