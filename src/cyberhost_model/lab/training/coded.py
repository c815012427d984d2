"""Encoded clips on disk: shards, each a safetensors file of many clips, of which a training step reads slices.

The tensors of a shard are those of its clips, one after the other along the first axis, and its metadata says which
rows belong to which clip. Files of one clip each, as earlier versions wrote them, are read the same way.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import TracebackType

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cyberhost_model.config import FPS, Preset
from cyberhost_model.errors import OutputError, TrainingError
from cyberhost_model.media.files import atomic_path
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.reading import Unreadable, convert, one_line, open_file, parse_json
from cyberhost_model.speech.encoder import frame_windows, window_start

POINTS = ("body", "body_score", "hands", "hands_score", "face", "face_score")
REFERENCE = ("r", "face", "hands", "hands_seen")
"""Tensors of a reference besides its key points."""
TENSORS = ("z", *REFERENCE, "features", "place", "clarity", "heard")
"""Tensors of a clip in a shard besides key points; `ClipEncoder.encode` says their shapes."""
OLD_TENSORS = ("z", *REFERENCE, "audio", "reference", "clarity", "heard")
"""Those of a file of one clip: `audio` holds the windows of its frames, `reference` a picture."""
SHARD_BYTES = 1 << 27
"""Size at which a shard is written. Larger ones are fewer files, and more to do again after a run was killed."""
HEAD = "-head"  # ends the name of the folder of clips without hands
SIZE = re.compile(rf"(\d+)x(\d+)({HEAD})?")
"""Names of the folders of clips: their size in pixels."""
_SHARD = "shard-"
_CLIPS, _ROWS = "clips", "rows"  # entries of a shard's metadata
_OPEN = 64  # files that a process keeps open
_LEVELS = 127  # of an int8
_AGAIN = "delete it and run `cyberhost data encode` again"


@dataclass(frozen=True)
class CodedClip:
    """An encoded clip: where it lies, and how many frames it has."""

    name: str
    file: Path
    number: int = 0
    """Its place in the shard."""
    frames: int | None = None
    """None where the file would have to be opened to know it."""

    @property
    def kind(self) -> tuple[int, int, bool]:
        """Width and height in pixels, and whether it shows a head alone: the clips of a batch are of one kind."""
        match = SIZE.fullmatch(self.file.parent.name)
        assert match is not None
        return int(match[1]), int(match[2]), match[3] is not None

    def open(self) -> ClipReader:
        """Open it. Raises TrainingError for a file that is missing, damaged or incomplete."""
        try:
            changed = self.file.stat().st_mtime_ns
        except OSError as error:
            raise TrainingError(f"{self.file}: the coded clip cannot be read ({one_line(error)}); {_AGAIN}") from None
        return ClipReader(_open(self.file, changed), self.number)

    def __str__(self) -> str:
        return f"{self.file}: {self.name}" if self.file.name.startswith(_SHARD) else str(self.file)


class _ClipFile:
    """An open safetensors file of clips: their names, and the rows of every tensor at which they begin and end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, list[int]] = {}
        self.names = [path.stem]
        self.sharded = path.name.startswith(_SHARD)
        try:
            with open_file(path):  # a pipe would be waited for
                pass
            self.file = safe_open(path, framework="pt")
            self.shapes = {name: tuple(self.file.get_slice(name).get_shape()) for name in self.file.keys()}
            if self.sharded:
                self._read_index(self.file.metadata() or {})
        except (OSError, SafetensorError, ValueError, Unreadable) as error:
            raise TrainingError(f"{path}: the coded clip cannot be read ({one_line(error)}); {_AGAIN}") from None
        wanted = (*(TENSORS if self.sharded else OLD_TENSORS), *(f"frame.{n}" for n in POINTS))
        if missing := [name for name in wanted if name not in self.shapes]:
            raise TrainingError(
                f"{path}: the coded clip lacks {', '.join(missing)}; code the clips again with `cyberhost data encode`"
            )

    def _read_index(self, metadata: Mapping[str, str]) -> None:
        """Read which rows belong to which clip. Raises Unreadable where it does not fit the tensors."""
        self.names = convert(list[str], parse_json(metadata.get(_CLIPS, "")), _CLIPS)
        self.rows = convert(dict[str, list[int]], parse_json(metadata.get(_ROWS, "")), _ROWS)
        for name, shape in self.shapes.items():
            rows = self.rows.get(name, [])
            if len(rows) != len(self.names) + 1 or rows != sorted(rows) or (rows[0], rows[-1]) != (0, *shape[:1]):
                raise Unreadable(f"its index does not fit {name}")


@functools.lru_cache(maxsize=_OPEN)
def _open(path: Path, changed: int) -> _ClipFile:
    """Open a file, or find it open. changed: when it was written; a file that was written since is another one."""
    return _ClipFile(path)


class ClipReader:
    """One encoded clip of T frames in an open file. What is asked for is read, and no more."""

    def __init__(self, file: _ClipFile, number: int = 0) -> None:
        self._file, self._number = file, number
        self.frames = self.count("clarity")
        """T."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor's rows."""
        return self._file.shapes[name][1:]

    def count(self, name: str) -> int:
        """Count the rows of a tensor."""
        if not self._file.sharded:
            return (*self._file.shapes[name], 0)[0]
        first, last = self._file.rows[name][self._number : self._number + 2]
        return last - first

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Read the rows `start` to `stop` of a tensor. Raises TrainingError."""
        first = self._file.rows[name][self._number] if self._file.sharded else 0
        last = self.count(name) if stop is None else stop
        try:
            return self._file.file.get_slice(name)[first + start : first + last]
        except (OSError, SafetensorError, IndexError) as error:
            raise TrainingError(f"{self._file.path}: cannot be read ({one_line(error)}); {_AGAIN}") from None

    @property
    def references(self) -> int:
        """Reference frames that it is encoded against, or can be shown with."""
        return self.count("r") if self._file.sharded else 1

    def reference(self, number: int) -> tuple[dict[str, Tensor], Keypoints]:
        """Read a reference: the tensors of `REFERENCE` and its key points."""
        one = slice(number, number + 1)
        if self._file.sharded:
            found = {name: self.rows(name, one.start, one.stop)[0] for name in REFERENCE}
        else:
            found = {name: self.rows(name) for name in REFERENCE}
        return found, self.points("reference", one.start, one.stop)[0]

    def points(self, of: str, start: int, stop: int) -> list[Keypoints]:
        """Read key points, `of` "frame" or "reference"."""
        packed = [self.rows(f"{of}.{name}", start, stop).float().numpy() for name in POINTS]
        return [Keypoints(*(part[i] for part in packed)) for i in range(stop - start)]

    def latents(self, reference: int, start: int, stop: int) -> Tensor:
        """Read the latents (n, C, h, w) of frames, encoded against a reference where they depend on it."""
        at = reference * self.frames if self.count("z") > self.frames else 0
        return self.rows("z", at + start, at + stop).float()

    def windows(self, start: int, stop: int, tokens: int) -> Tensor:
        """Read the windows of the speech features of frames: (n, tokens, layers, D)."""
        if not self._file.sharded:
            return self.rows("audio", start, stop).float()
        first_frame, first_step = self.rows("place")[0].tolist()
        begin = window_start(first_frame + start, FPS, tokens) - first_step
        end = window_start(first_frame + stop - 1, FPS, tokens) + tokens - first_step
        steps = self.count("features")
        begin, end = min(max(begin, 0), steps - 1), min(max(end, 1), steps)
        features = self.rows("features", begin, end).float()
        if "features.scale" in self._file.shapes:
            features = features * self.rows("features.scale")
        return frame_windows(features, stop - start, FPS, tokens, first_frame + start, first_step + begin)

    def sound(self) -> Tensor:
        """Read the sound that the features are of, int16 (n,) at 16 kHz; the first stretch of a clip has all of it."""
        return self.rows("sound") if "sound" in self._file.shapes else torch.zeros(0, dtype=torch.int16)

    def check_fits(self, preset: Preset, frames: int) -> None:
        """Check that it fits a network of `preset` and clips of `frames` frames. Raises TrainingError."""
        folder, audio = self._file.path.parent.parent, preset.audio
        features = self.shape("features") if self._file.sharded else self.shape("audio")
        wanted = (audio.layers, audio.dim) if self._file.sharded else (audio.tokens, audio.layers, audio.dim)
        if self.shape("z")[:1] != (preset.latent_channels,) or features != wanted:
            raise TrainingError(
                f"{folder}: its clips are coded for another preset than {preset.name}; code them with "
                f"`cyberhost data encode --preset {preset.name}`"
            )
        if self.frames < (need := preset.motion_frames + frames):
            raise TrainingError(
                f"{folder}: its clips have {self.frames} frames, and {need} are needed; code them with `cyberhost "
                "data encode --frames 32`"
            )


def pack_points(points: list[Keypoints], of: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Pack key points, `of` "frame" or "reference", into the tensors of an encoded clip."""
    return {f"{of}.{n}": torch.stack([torch.from_numpy(getattr(k, n)) for k in points]).to(dtype) for n in POINTS}


def pack_features(features: Tensor, first_frame: int, frames: int, tokens: int, eight_bits: bool) -> dict[str, Tensor]:
    """Cut the steps that the windows of a clip's frames reach out of a recording's features (S, layers, D).

    first_frame: of the clip in the recording. eight_bits: whole numbers of 8 bits with a scale for each of a layer's
    numbers, in place of float16.
    """
    begin = min(max(window_start(first_frame, FPS, tokens), 0), len(features) - 1)
    steps = features[begin : max(window_start(first_frame + frames - 1, FPS, tokens) + tokens, begin + 1)]
    place = torch.tensor([[first_frame, begin]])
    if not eight_bits:
        return {"features": steps.half(), "place": place}
    scale = (steps.abs().amax(0, keepdim=True) / _LEVELS).clamp_min(1e-8).float()
    return {"features": (steps / scale).round().to(torch.int8), "features.scale": scale, "place": place}


class ShardWriter:
    """Gathers encoded clips and writes a shard whenever there is enough of one kind, and the rest at the end.

    The rest is written after an error and a Ctrl-C as well: those clips are whole. A shard appears whole or not at all.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._waiting: dict[str, dict[str, dict[str, Tensor]]] = {}
        self._bytes: dict[str, int] = {}

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for place in [*self._waiting]:
            self._write(place)

    def add(self, name: str, tensors: dict[str, Tensor], size: tuple[int, int], head: bool = False) -> None:
        """Add a clip of `size` (W, H); head: it shows a head alone. Raises OutputError."""
        place = f"{size[0]}x{size[1]}" + HEAD * head
        self._waiting.setdefault(place, {})[name] = tensors
        self._bytes[place] = self._bytes.get(place, 0) + sum(t.nbytes for t in tensors.values())
        if self._bytes[place] >= SHARD_BYTES:
            self._write(place)

    def _write(self, place: str) -> None:
        write_shard(self.folder / place, self._waiting.pop(place))
        del self._bytes[place]


def write_shard(place: Path, clips: Mapping[str, dict[str, Tensor]]) -> Path:
    """Write clips with the same tensors into one file of the folder `place`, named by their names.

    Raises OutputError.
    """
    names = sorted(clips)
    rows = {
        tensor: [0, *accumulate(len(clips[name][tensor]) for name in names)] for tensor in next(iter(clips.values()))
    }
    joined = {tensor: torch.cat([clips[name][tensor] for name in names]).contiguous() for tensor in rows}
    file = place / f"{_SHARD}{hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]}.safetensors"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as part:
            save_file(joined, part, {_CLIPS: json.dumps(names), _ROWS: json.dumps(rows)})
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{place}: clips cannot be written ({one_line(error)}); check space and rights") from None
    return file


def list_clips(folder: Path) -> list[CodedClip]:
    """List the encoded clips below a folder by their names; of a shard its index is read, of other files nothing.

    Raises TrainingError for a shard that cannot be read.
    """
    return sorted(_iterate(folder), key=lambda clip: clip.name)


def _iterate(folder: Path) -> Iterator[CodedClip]:
    for path in sorted(folder.glob("*x*/*.safetensors")):
        if SIZE.fullmatch(path.parent.name) is None:
            continue
        if not path.name.startswith(_SHARD):
            yield CodedClip(path.stem, path)
            continue
        file = _ClipFile(path)
        lengths = file.rows["clarity"]
        for number, name in enumerate(file.names):
            yield CodedClip(name, path, number, lengths[number + 1] - lengths[number])
