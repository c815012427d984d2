"""Which marks a video gets, and the way of its frames and its file through them."""

from __future__ import annotations

import contextlib
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyberhost_model.errors import InputError
from cyberhost_model.options import option

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Marks:
    """The marks of a video: keyword `marks` of `Animation.save`, and options of the commands that make a video."""

    watermark: bool = option(
        True, "Mark every frame invisibly as made. Before leaving it out: docs/user/marks.md, what the law asks."
    )
    label: bool = option(False, 'Write "AI generated" into the upper right corner.')
    c2pa: bool | None = option(
        None, "Sign the video with Content Credentials (C2PA). [default: where the extra c2pa is installed]"
    )
    certificate: Path | None = option(
        None, "Certificate chain to sign with, PEM. [default: CYBERHOST_CERTIFICATE, or a local one]", metavar="FILE"
    )
    private_key: Path | None = option(
        None, "Its private key, PEM. [default: CYBERHOST_PRIVATE_KEY, or the local one's]", metavar="FILE"
    )

    def frames(self, frames: Iterable[np.ndarray], run: int | None = None) -> Iterator[np.ndarray]:
        """Mark frames, uint8 (H, W, 3) RGB, while they go by. run: the number that the watermark carries.

        Of RGBA frames (H, W, 4) the colours are marked, and the alpha stays, but for the label's, which is opaque.
        """
        # Late: the command line reads the options without numpy.
        from cyberhost_model.marks.label import labelled, show_label
        from cyberhost_model.marks.watermark import marked

        def mark(colours: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
            shown = labelled(colours) if self.label else iter(colours)
            return marked(shown, run) if self.watermark else shown

        return _beside_alpha(frames, mark, show_label if self.label else lambda alpha: alpha)

    def tags(self, inputs: Iterable[Path] = (), run: int | None = None, edited: bool = False) -> dict[str, str]:
        """Make the container's tags: that the video is made, in which run, and what its inputs said of themselves.

        edited: it is a filmed video of which a model made a part.
        """
        from cyberhost_model.marks.container import made_tags

        return made_tags(inputs, run, edited)

    def signing(
        self, name: str, inputs: Iterable[Path] = (), run: int | None = None, edited: bool = False
    ) -> Callable[[Path], None] | None:
        """Prepare the signing of a video that is called `name` and made of `inputs`; None: it is not signed.

        edited: as in `tags`. The function takes the path of the whole file. A kind of file that C2PA does not know is
        signed only where it is asked for, and then refused. Raises InputError, ResourceError.
        """
        from cyberhost_model.marks.content_credentials import MIME, available, open_signer

        asked, known = self.c2pa or self.certificate is not None, Path(name).suffix.lower() in MIME
        if self.c2pa is False or (not asked and not (known and available())):
            return None
        if not known:
            raise InputError(f"{name}: Content Credentials go into .mp4, .m4v and .mov: give such a name, or --no-c2pa")
        signer, sources = open_signer(self.certificate, self.private_key), tuple(inputs)
        return lambda video: signer.sign(video, name, sources, run, edited)


def _beside_alpha(
    frames: Iterable[np.ndarray],
    mark: Callable[[Iterable[np.ndarray]], Iterator[np.ndarray]],
    mark_alpha: Callable[[np.ndarray], np.ndarray],
) -> Iterator[np.ndarray]:
    """Pass the colours of frames (H, W, 3 or 4) through `mark`, and the alpha (H, W, 1) of those that have one."""
    import numpy as np

    waiting: deque[np.ndarray | None] = deque()

    def colours() -> Iterator[np.ndarray]:
        for frame in frames:
            waiting.append(mark_alpha(frame[..., 3:]) if frame.shape[-1] == 4 else None)
            yield frame[..., :3]

    for colour in mark(colours()):
        alpha = waiting.popleft()
        yield colour if alpha is None else np.concatenate([colour, alpha], -1)


class FrameDigests:
    """The SHA-256 of every frame while it goes by, for the record of a run.

    They can be kept in a file, so that a video that was stopped has those of the frames that are not made again.
    """

    def __init__(self) -> None:
        self._digests: list[str] = []
        self._file: Path | None = None

    def begin(self, file: Path | None = None, first: int = 0) -> None:
        """Begin at frame number `first`, with the digests of the frames before from `file`, which they are kept in.

        Raises OSError and ValueError for a file that does not hold them.
        """
        before = file.read_text(encoding="ascii").split()[:first] if file is not None and first else []
        if len(before) != first:
            raise ValueError(f"{file}: holds {len(before)} digests of {first} frames")
        self._digests, self._file = before, file
        if file is not None:
            file.write_text("".join(f"{line}\n" for line in before), encoding="ascii")

    def note(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Note frames, uint8 (H, W, 3), while they go by."""
        with contextlib.ExitStack() as stack:
            out = None if self._file is None else stack.enter_context(self._file.open("a", encoding="ascii"))
            for frame in frames:
                self._digests.append(hashlib.sha256(frame.tobytes()).hexdigest())
                if out is not None:
                    out.write(f"{self._digests[-1]}\n")
                    out.flush()
                yield frame

    def hexdigest(self) -> str:
        """Compute the SHA-256 of all frames' digests, in order, as hex."""
        return hashlib.sha256("".join(self._digests).encode()).hexdigest()
