"""A live session as bytes: samples go in, pieces of a fragmented MP4 come out."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import IO

import numpy as np

from cyberhost_model.marks.marking import Marks
from cyberhost_model.media.fragments import pieces
from cyberhost_model.media.live_writer import LiveWriter
from cyberhost_model.media.pcm import PcmFormat
from cyberhost_model.runtime.live import LiveSession, Speaker


class LiveStream:
    """Context manager: inside, a thread makes frames of what is pushed, and hands them to the encoder.

    The encoder writes into a pipe, which `pieces` reads. Where nobody reads, the pipe is full, then the encoder waits,
    then the thread, and no frame is made: what waits are the samples alone (`ahead`).
    """

    def __init__(
        self, session: LiveSession, form: PcmFormat, marks: Marks, tags: Mapping[str, str], model: threading.Lock
    ) -> None:
        """Begin without a sound.

        form: of the samples that are pushed. tags: of the video. model: held while a frame is computed.
        """
        self.session, self.form, self.marks, self.tags, self.model = session, form, marks, tags, model
        self.ended = False
        """No more sound comes."""
        self.frames = 0
        """Frames that were made."""
        self._speaker = Speaker(session, form.rate, form.channels)
        self._more = threading.Event()  # sound that may make frames certain, or the end
        self._stopped = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="live session", daemon=True)

    def __enter__(self) -> LiveStream:
        reading, writing = os.pipe()
        self._video, self._target = os.fdopen(reading, "rb"), os.fdopen(writing, "wb", buffering=0)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what is not made or read yet, and wait for the thread: at most for the clip that it computes."""
        self._stopped = True
        self._more.set()
        self._video.close()  # an encoder that waits for room ends
        self._thread.join()

    @property
    def ahead(self) -> float:
        """Seconds of sound of which there are no frames yet."""
        return max(0.0, self.session.heard - self.session.time)

    def push(self, data: bytes) -> None:
        """Append whole samples of `form`. Raises InputError after `end`."""
        self._speaker.push(self.form.samples(data))
        self._more.set()

    def interrupt(self) -> float:
        """Drop the sound of which no frame was made; returns the time in seconds from which the next sound is shown."""
        return self._speaker.interrupt()

    def end(self) -> None:
        """Say that no more sound comes."""
        self.session.close()
        self.ended = True
        self._more.set()

    def pieces(self) -> Iterator[bytes]:
        """Yield the header and the fragments, waiting for each; raises what ended the making of frames."""
        yield from pieces(self._video)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            with self._target as target:
                self._write(target)
        except Exception as error:  # told where the pieces are read
            self._error = error

    def _write(self, target: IO[bytes]) -> None:
        frames = self._frames()
        if (first := next(frames, None)) is None:
            return  # a video has at least one frame
        size, fps, form = self.session.size, self.session.fps, self.form
        with LiveWriter(target, size, fps, form.rate, form.channels, self.tags) as writer:
            for frame, sound in itertools.chain([first], frames):
                writer.add(next(self.marks.frames([frame])), sound)
                self.frames += 1

    def _frames(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield frames with their sound until the sound has ended, or they are not wanted any more."""
        last = False
        while not (last or self._stopped):
            self._more.wait()
            self._more.clear()
            last, certain = self.ended, self._speaker.frames()
            while not self._stopped:
                with self.model:
                    made = next(certain, None)
                if made is None:
                    break
                yield made[0], made[1]
