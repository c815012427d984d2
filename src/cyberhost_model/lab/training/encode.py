"""Encode a dataset (of `data prepare` or `data synth`), or clips that are made, into the shards that stages train on.

Jobs of some clips are done by an engine (`lab.engines`); each writes shards of its own. What is there already is known
by the clips' names, so a run that was stopped goes on, with any number of processes and machines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np

from cyberhost_model.errors import InputError
from cyberhost_model.lab.engines import Engine, Work
from cyberhost_model.lab.filmed.manifest import Row, accepted_rows
from cyberhost_model.lab.synthetic.clips import ClipGenerator
from cyberhost_model.lab.training.clip_encoder import ClipEncoder, worker_encoder
from cyberhost_model.lab.training.coded import SHARD_BYTES, ShardWriter, list_clips
from cyberhost_model.lab.training.fidelity import Fidelity
from cyberhost_model.lab.training.filmed_clips import cut_clips, read_filmed, stretches
from cyberhost_model.media.files import written_whole
from cyberhost_model.reading import Unreadable, read_object

SUMMARY_FILE = "source.json"
FORMAT = 2
"""Version of encoded clips; 1 had a file for each."""
MOST = 64
"""Clips of a job."""
_NO_SOUND = slice(0, 0)
Progress = Callable[[int, int], None]
"""(done, all), in clips."""


@dataclass
class EncodeSummary:
    """What was encoded."""

    clips: int = 0
    """Clips that were asked for, of a dataset those of the split."""
    kept: int = 0
    """Those of them that an earlier run encoded."""
    short: int = 0
    """Those with fewer frames than a stretch."""
    coded: int = 0
    """Stretches that this run wrote, each an encoded clip of its own."""
    broken: list[tuple[str, str]] = field(default_factory=list)
    """Clips that cannot be read, each with the reason."""
    fidelity: Fidelity = field(default_factory=Fidelity)
    """How well the codec brings back what was coded."""

    def add(self, other: EncodeSummary) -> None:
        """Add what a job encoded."""
        self.coded += other.coded
        self.broken += other.broken
        self.fidelity.extend(other.fidelity)


@dataclass(frozen=True)
class FilmedJob:
    """Clips of a dataset to encode. there: names of their stretches that are there already."""

    rows: tuple[Row, ...]
    there: frozenset[str]


@dataclass
class _EncodeWork:
    """What both kinds of work share; another process loads the encoder itself, by its configuration."""

    out: Path
    encoder: ClipEncoder | None
    tick: Callable[[int], None] | None
    """Called with 1 after each clip, where a job is done in this process."""

    def __post_init__(self) -> None:
        assert self.encoder is not None
        self._config = self.encoder.config
        self.gpus = int(self._config.device.startswith("cuda"))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "encoder": None, "tick": None}

    def begin(self) -> tuple[ClipEncoder, EncodeSummary]:
        """Return the encoder and the empty result of a job, into which it measures its fidelity."""
        encoder = self.encoder or worker_encoder(self._config)
        encoder.fidelity = Fidelity()
        return encoder, EncodeSummary(fidelity=encoder.fidelity)

    def done(self) -> None:
        """Count a clip."""
        if self.tick:
            self.tick(1)


@dataclass
class EncodeFilmed(_EncodeWork, Work[FilmedJob, EncodeSummary]):
    """Encode clips of a dataset in stretches of `frames` frames, None for whole clips."""

    dataset: Path = Path()
    frames: int | None = None
    seed: int = 0

    def run(self, job: FilmedJob) -> EncodeSummary:
        """Encode and write the clips of a job; those that cannot be read are listed. Raises OutputError."""
        encoder, summary = self.begin()
        config = encoder.config
        with ShardWriter(self.out) as shards:
            for row in job.rows:
                try:
                    filmed = read_filmed(self.dataset, row)
                except InputError as error:
                    summary.broken.append((row.clip, str(error)))
                    self.done()
                    continue
                features = encoder.recording_features(filmed.samples)
                rng = np.random.default_rng([self.seed, crc32(row.clip.encode())])
                flow = config.shape.traits.relative
                for stretch in cut_clips(filmed, self.frames, rng, config.drawn_references, flow):
                    name = clip_name(row, stretch[0].first)
                    if name in job.there:
                        continue
                    tensors = encoder.encode(stretch, features)
                    if stretch[0].first:  # the sound is that of the whole clip: its first stretch has it
                        tensors["sound"] = tensors["sound"][_NO_SOUND]
                    shards.add(name, tensors, stretch[0].reference.size, stretch[0].head)
                    summary.coded += 1
                self.done()
        return summary

    def record_crash(self, job: FilmedJob, detail: str) -> EncodeSummary:
        """Tell that the clips of a job were not encoded; the next run tries them again."""
        return EncodeSummary(broken=[(row.clip, f"{row.clip}: not coded: {detail}; run again") for row in job.rows])

    def clean(self, job: FilmedJob) -> None:
        """Do nothing: a shard appears whole or not at all."""


@dataclass
class EncodeMade(_EncodeWork, Work[tuple[int, ...], EncodeSummary]):
    """Make clips by their numbers, and encode them."""

    make: Callable[[ClipEncoder], ClipGenerator] | None = None
    """Opens the source of clips; for worker processes it can be pickled."""
    _made: ClipGenerator | None = None

    def run(self, job: tuple[int, ...]) -> EncodeSummary:
        """Make, encode and write the clips of a job. Raises OutputError."""
        encoder, summary = self.begin()
        assert self.make is not None
        self._made = made = self._made or self.make(encoder)
        with ShardWriter(self.out) as shards:
            for number in job:
                clip = made.clip(number)
                shards.add(made_name(number), encoder.encode(clip), clip.reference.size, clip.head)
                summary.coded += 1
                self.done()
        return summary

    def record_crash(self, job: tuple[int, ...], detail: str) -> EncodeSummary:
        """Tell that the clips of a job were not encoded; the next run tries them again."""
        return EncodeSummary(broken=[(made_name(n), f"clip {n}: not coded: {detail}; run again") for n in job])

    def clean(self, job: tuple[int, ...]) -> None:
        """Do nothing: a shard appears whole or not at all."""


def encode_dataset(
    dataset: Path,
    out: Path,
    encoder: ClipEncoder,
    *,
    frames: int | None = None,
    seed: int = 0,
    split: str = "train",
    part: Part | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
) -> EncodeSummary:
    """Encode the accepted clips of one split in stretches of `frames` frames, see `filmed_clips.cut_clips`.

    frames: None for 32, or whole clips where latents stand by themselves. The reference frames depend on the seed and
    the clip's name alone. part: of the clips in the manifest's order. warn(line): called for a clip that cannot be read
    and is left out. Raises InputError where the split has no clip, none can be read, or `out` has clips of another
    dataset or of other settings; OutputError.
    """
    rows = (part or Part()).of(accepted_rows(dataset, split))
    frames = encoder.config.stretch(frames)
    facts = {"dataset": str(dataset.resolve()), "split": split, "frames": frames, "seed": seed}
    claim(out, {**facts, **encoder.config.facts()})
    summary = encode_rows(dataset, rows, out, encoder, frames, seed, engine, progress, warn)
    if rows and len(summary.broken) == len(rows):
        raise InputError(f"{dataset}: none of {len(rows)} clips can be read; the first: {summary.broken[0][1]}")
    return summary


def encode_rows(
    dataset: Path,
    rows: Sequence[Row],
    out: Path,
    encoder: ClipEncoder,
    frames: int | None,
    seed: int,
    engine: Engine | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
) -> EncodeSummary:
    """Encode clips of a dataset into `out`, whatever else is there; arguments as in `encode_dataset`.

    Raises OutputError.
    """
    there, engine = {clip.name for clip in list_clips(out)}, engine or Engine()
    summary, waiting = EncodeSummary(len(rows)), []
    for row in rows:
        pieces = {clip_name(row, start) for start in stretches(row.frames or 0, frames)} if row.frames else set()
        summary.short += not pieces
        summary.kept += bool(pieces) and pieces <= there
        if not pieces <= there:
            waiting.append(row)
    count = _Count(summary, len(rows), len(rows) - len(waiting), progress, warn)
    work = EncodeFilmed(out, encoder, count.tick if count.here(engine) else None, dataset, frames, seed)
    jobs = [FilmedJob(some, _pieces_there(some, there)) for some in _by_kind(waiting, encoder, engine.workers)]
    for job, done in engine.run(work, jobs):
        count.finish(done, len(job.rows))
    return summary


def encode_made(
    make: Callable[[ClipEncoder], ClipGenerator],
    out: Path,
    encoder: ClipEncoder,
    numbers: Iterable[int],
    engine: Engine | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
) -> EncodeSummary:
    """Make clips by their `numbers` and encode them into `out`; those that are there already are kept.

    make: opens the source of clips, once a process. Raises OutputError.
    """
    there, engine, wanted = {clip.name for clip in list_clips(out)}, engine or Engine(), [*numbers]
    waiting = [number for number in wanted if made_name(number) not in there]
    summary = EncodeSummary(len(wanted), len(wanted) - len(waiting))
    count = _Count(summary, len(wanted), summary.kept, progress, warn)
    work = EncodeMade(out, encoder, count.tick if count.here(engine) else None, make)
    size = min(MOST, -(-len(waiting) // max(1, engine.workers)) or 1)
    for job, done in engine.run(work, [tuple(waiting[i : i + size]) for i in range(0, len(waiting), size)]):
        count.finish(done, len(job))
    return summary


@dataclass(frozen=True)
class Part:
    """Part of the clips: `clips` from number `start` on, and of these every n-th for shard i of n."""

    start: int = 0
    clips: int | None = None
    shard: tuple[int, int] = (1, 1)

    @staticmethod
    def read_shard(text: str) -> tuple[int, int]:
        """Read "i/n", i from 1 to n. Raises InputError."""
        number, _, count = text.partition("/")
        right = number.isdecimal() and count.isdecimal() and len(text) < 12
        if not (right and 1 <= int(number) <= int(count)):
            raise InputError(f"a shard is I/N with I from 1 to N, such as 2/8, not {text[:40]!r}")
        return int(number), int(count)

    def of(self, every: Sequence[Row]) -> list[Row]:
        """Choose from the clips of a dataset."""
        inside = every[self.start : None if self.clips is None else self.start + self.clips]
        return [*inside[self.shard[0] - 1 :: self.shard[1]]]

    def numbers(self, default: int) -> range:
        """Choose the numbers of clips that are made. default: how many where nothing says it."""
        end = self.start + (self.clips or default)
        return range(self.start + self.shard[0] - 1, end, self.shard[1])


class _Count:
    """Counts finished clips: one by one where they are done in this process, by jobs elsewhere."""

    def __init__(
        self,
        summary: EncodeSummary,
        every: int,
        done: int,
        progress: Progress | None,
        warn: Callable[[str], None] | None,
    ) -> None:
        self.summary, self.every, self.done, self.progress, self.warn = summary, every, done, progress, warn
        self.by_clip = False
        self.tick(0)

    def here(self, engine: Engine) -> bool:
        """Tell whether clips are counted one by one."""
        self.by_clip = engine.kind == "local" and not engine.workers
        return self.by_clip

    def tick(self, clips: int) -> None:
        """Count clips."""
        self.done += clips
        if self.progress:
            self.progress(self.done, self.every)

    def finish(self, job: EncodeSummary, clips: int) -> None:
        """Take a job's result, and count its clips where that was not done yet."""
        self.summary.add(job)
        if self.warn:
            for _, reason in job.broken:
                self.warn(reason)
        if not self.by_clip:
            self.tick(clips)


def _by_kind(rows: Sequence[Row], encoder: ClipEncoder, workers: int) -> list[tuple[Row, ...]]:
    """Group clips into jobs of about a shard each: of one kind, and at least one for every worker."""
    most = min(MOST, -(-len(rows) // max(1, workers)) or 1)
    jobs: list[list[Row]] = []
    last, size = None, 0.0
    for row in sorted(rows, key=lambda row: (row.width or 0, row.height or 0, row.hands_share == 0)):
        kind = (row.width, row.height, row.hands_share == 0)
        own = (row.frames or 0) * encoder.config.bytes_per_frame((row.width or 0, row.height or 0))
        if kind != last or len(jobs[-1]) == most or size + own > SHARD_BYTES:
            jobs.append([])
            size = 0.0
        jobs[-1].append(row)
        last, size = kind, size + own
    return [tuple(job) for job in jobs]


def _pieces_there(rows: Sequence[Row], there: set[str]) -> frozenset[str]:
    """Choose of the names that are there those of the clips' stretches."""
    names = {clip_name(row, start) for row in rows for start in range(row.frames or 0)}
    return frozenset(names & there)


def clip_name(row: Row, start: int) -> str:
    """Make the name of an encoded stretch: the name of the clip and its first frame."""
    return f"{row.clip.replace('/', '-')}-{start:05d}"


def made_name(number: int) -> str:
    """Make the name of a clip that is made."""
    return f"{number:06d}"


def claim(out: Path, facts: dict[str, object], notes: dict[str, object] | None = None) -> None:
    """Save in `out` the settings that its clips are made with, and notes, which may change.

    Raises InputError where it has clips of other settings, or of an earlier version.
    """
    about = out / SUMMARY_FILE
    facts = {"format": FORMAT, **facts}
    out.mkdir(parents=True, exist_ok=True)
    if about.is_file():
        try:
            before = read_object(about)
        except (OSError, Unreadable):
            before = {}
        if before and before.get("format") != FORMAT:
            raise InputError(f"{out}: holds clips of an earlier version, which can be trained on; use another folder")
        if changed := [name for name, value in facts.items() if before.get(name) != value]:
            raise InputError(
                f"{out}: holds clips of other settings ({', '.join(changed)}); use those, or another folder"
            )
        if notes is None:
            return
    with written_whole(about) as part:
        part.write_text(json.dumps({**facts, **(notes or {})}, indent=2) + "\n", encoding="utf-8")
