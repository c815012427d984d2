"""Which marks a video gets, and the way of its frames and its file through them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    def frames(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Mark frames, uint8 (H, W, 3) RGB, while they go by."""
        # Late: the command line reads the options without numpy.
        from cyberhost_model.marks.label import labelled
        from cyberhost_model.marks.watermark import marked

        shown = labelled(frames) if self.label else iter(frames)
        return marked(shown) if self.watermark else shown

    def tags(self, inputs: Iterable[Path] = ()) -> dict[str, str]:
        """Make the container's tags: that the video is made, and what its inputs said of themselves."""
        from cyberhost_model.marks.container import made_tags

        return made_tags(inputs)

    def signing(self, name: str, inputs: Iterable[Path] = ()) -> Callable[[Path], None] | None:
        """Prepare the signing of a video that is called `name` and made of `inputs`; None: it is not signed.

        The function takes the path of the whole file. Raises InputError, ResourceError.
        """
        from cyberhost_model.marks.content_credentials import available, open_signer

        if self.c2pa is False or (self.c2pa is None and self.certificate is None and not available()):
            return None
        signer, sources = open_signer(self.certificate, self.private_key), tuple(inputs)
        return lambda video: signer.sign(video, name, sources)


def digested(frames: Iterable[np.ndarray], state: Any = None) -> Iterator[np.ndarray]:
    """Feed frames to `state`, a hash of `hashlib`, while they go by."""
    state = hashlib.sha256() if state is None else state
    for frame in frames:
        state.update(frame.tobytes())
        yield frame
