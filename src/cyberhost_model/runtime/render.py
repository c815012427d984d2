"""Rendering: the frames of a job, clip after clip through speech encoder, network and codec.

`Renderer` holds a model on a device and the steps that have no state; `Rendering` is one job while its frames are made.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from cyberhost_model.codecs.base import FrameDecoder, for_reference_net
from cyberhost_model.codecs.close_up import MOUTH
from cyberhost_model.conditions.blink import blinks
from cyberhost_model.conditions.movement import moving_parts
from cyberhost_model.config import GenerationConfig
from cyberhost_model.errors import ModelError, lacks_memory
from cyberhost_model.media.audio import Sound
from cyberhost_model.media.colour import LUMA
from cyberhost_model.media.image import crop_back
from cyberhost_model.model.conditions import ClipInputs, Conditions, Features
from cyberhost_model.runtime.background import BackgroundWorker
from cyberhost_model.runtime.clip_store import ClipState, ClipStore
from cyberhost_model.runtime.loading import Model
from cyberhost_model.runtime.memory import MemoryFallback
from cyberhost_model.runtime.pose_source import DrivenArms, PoseCondition, PoseSource, consecutive, poses_of
from cyberhost_model.runtime.prepare import Reference, to_pixels
from cyberhost_model.runtime.windowed import WindowPredictor
from cyberhost_model.sampler.cuda_graphs import RecordedNetwork
from cyberhost_model.sampler.denoise import Clip, clip_end, denoise_clip, denoise_clips, plan_clips
from cyberhost_model.sampler.guidance import Guidance
from cyberhost_model.sampler.loop import close_loop, open_at_end
from cyberhost_model.sampler.noise import SlowNoise, SlowNoises
from cyberhost_model.sampler.onnx_steps import Exported, ExportedNetwork
from cyberhost_model.sampler.postprocess import place_face_controls, smooth_over_time
from cyberhost_model.sampler.windows import Window, denoise_windows, draw_window_noise
from cyberhost_model.speech.feature_file import FeatureFile

ENDLESS = 1 << 60
"""Frames of a video whose sound is still being spoken."""
_BLINKS = 0xB11  # blinks draw from a generator of their own, so that --no-blink changes nothing else


SpeechSource = Callable[[int], Iterator[Tensor]]
"""First frame -> the windows of speech features (tokens, layers, D) of it and the frames after it, in order."""


@dataclass(frozen=True)
class Job:
    """Everything the frames of an animation depend on, except the model."""

    reference: Reference
    config: GenerationConfig
    pose_source: PoseSource
    total: int
    """Frames of the video, `ENDLESS` where no end is known."""
    sound: Sound | None
    guidance: Guidance
    clarity: float
    """Hand clarity score in 0..1; -1 where no hand is visible."""
    slow_noise: float
    """Share of slow noise in the variance, for a body that no key points drive (`sampler.noise.SlowNoise`)."""
    blink: bool = True
    """Lids shut now and then, or as those of the driving face do."""
    speech: SpeechSource | None = None
    """Speech features of a sound that is not known as a whole, in the place of `sound`."""
    clip: int | None = None
    """Frames that are sampled together; None: as many as the network was trained with."""
    arms: DrivenArms | None = None
    """Arms that are laid over the frames, which the network does not move."""
    lead: int = 0
    """Frames that are sampled before the first, whole clips, so that the video is a loop (`sampler.loop`)."""


@dataclass(frozen=True)
class Renderer:
    """Makes the frames of jobs with one model on one device."""

    model: Model
    device: torch.device
    dtype: torch.dtype
    overlap: bool
    """A clip is decoded while the next one is denoised."""
    graphs: bool = False
    """Steps are recorded as CUDA graphs."""
    exported: Exported | None = None
    """Steps are run by onnxruntime: those that were exported."""

    def frames(
        self,
        job: Job,
        warn: Callable[[str], None],
        on_step: Callable[[int, int], None] | None = None,
        store: ClipStore | None = None,
    ) -> Iterator[np.ndarray]:
        """Make the frames of a job one after the other, uint8 (H, W, 3).

        Only one clip and the motion frames are in memory, or the latents of all frames for networks that denoise a
        video in overlapping windows. warn: called with lines for the user, such as that memory is short. on_step(step,
        steps): called after each step of all windows, before the first frame. store: keeps finished clips; those it
        says are encoded are left out, and those it holds are not sampled again.
        """
        yield from Rendering(
            self, job, warn, on_step, store
        ).frames()  # nothing is read or computed before the first frame

    def uses_audio(self, job: Job) -> bool:
        """Return whether a sound moves the lips."""
        heard = job.sound is not None or job.speech is not None
        return heard and self.model.network.preset.uses_audio

    def stream_speech(self, job: Job, first: int = 0) -> Iterator[Tensor]:
        """Stream the speech features of each frame's window, (tokens, layers, D), from frame `first` on.

        The sound is read twice, for its level and for its features, and never kept in memory.
        """
        if job.speech is not None:
            return job.speech(first)
        assert job.sound is not None
        level = self.model.speech.level(job.sound.stream_mono16k())
        preset, total = self.model.network.preset, job.total
        if preset.portrait is not None:
            total = -(-total // preset.frames) * preset.frames  # silence fills the last clip
        windows = self.model.speech.stream_windows(
            job.sound.stream_mono16k(), level, total, job.config.fps, preset.audio.tokens
        )
        return itertools.islice(windows, first, None)

    def write_speech(self, job: Job) -> FeatureFile:
        """Write the speech features of the whole sound into a file, for windows in any order."""
        assert job.sound is not None
        speech, level = self.model.speech, self.model.speech.level(job.sound.stream_mono16k())
        return FeatureFile(speech.stream(job.sound.stream_mono16k(), level), speech.layers, speech.dim)

    def clip_conditions(
        self,
        job: Job,
        pose: PoseCondition,
        frames: int,
        audio: Tensor | None,
        past: Tensor | None,
        shut: Tensor | None = None,
        features: Features | None = None,
    ) -> Conditions:
        """Encode the conditions of a clip of `frames` frames.

        audio (1, frames, tokens, layers, D); past (1, M, C, h, w): the latents of the motion frames; shut (1, frames):
        how far the lids are shut; features: `motion_features` of `past`, where they are known.
        """
        reference = job.reference
        inputs = ClipInputs(
            audio=audio,
            motion_latents=None if past is None else self._motion_inputs(job, past),
            pose=pose.pose,
            pose_shift=pose.shift,
            hand_clarity=torch.full((1, frames), job.clarity, device=self.device, dtype=self.dtype),
            shut=shut,
        )
        return self.model.network.clip_conditions(reference.conditions, inputs, features)

    def motion_features(self, job: Job, past: Tensor) -> Features:
        """Encode the latents (1, M, C, h, w) of motion frames, for presets without `portrait`."""
        return self.model.network.motion_features(self._motion_inputs(job, past))

    def _motion_inputs(self, job: Job, past: Tensor) -> Tensor:
        return for_reference_net(self.model.codec.kind, past, job.reference.latent)

    @torch.inference_mode()
    def motion_through_pictures(self, job: Job, past: Tensor | None, keep: Tensor | None) -> Tensor:
        """Decode the motion frames' latents `past` and encode the pictures again, as Hallo does -> (1, M, C, h, w).

        Without `past` they are the reference picture. keep (H, W): 0 where pixels are taken out of them.
        """
        picture, count = job.reference.small, self.model.network.preset.motion_frames
        if past is None:
            frames = picture[:, None].expand(-1, count, -1, -1, -1)
        else:
            frames = self.model.codec.decode(past, picture)
        frames = frames if keep is None else frames * keep.to(frames)
        return torch.cat([self.model.codec.encode_reference(frame) for frame in frames[0].split(1)])[None]

    @torch.inference_mode()
    def decode(
        self, job: Job, z: Tensor, at_once: int, decoder: FrameDecoder | None = None, first: int = 0
    ) -> np.ndarray:
        """Decode latents (1, F, C, h, w) -> uint8 (F, H, W, 3) of the whole canvas, `at_once` frames at a time.

        decoder: the job's, where there is one already. first: number of the first frame in the video. Raises ModelError
        for latents that are not finite, which would become black frames.
        """
        if not z.isfinite().all():
            half = self.dtype is torch.float16
            advice = (
                "give --precision bf16 or fp32, or get the model again"
                if half
                else "its weights are damaged or badly trained; get the model again"
            )
            raise ModelError(
                f"the network's latents are not finite in {str(self.dtype).removeprefix('torch.')}: {advice}"
            )
        parts, decoder = [], decoder or self.decoder(job)
        for part in z.split(at_once, 1):
            arms = None if job.arms is None else job.arms.points(first, part.shape[1])
            frames, first = decoder(part, arms)[0], first + part.shape[1]
            if job.reference.grey:  # the network was taught in colour, and its mouths have some
                frames = (frames.float() * frames.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
                frames = frames.expand(-1, 3, -1, -1)
            parts.append(to_pixels(frames))
        return np.concatenate(parts)

    @torch.inference_mode()
    def decoder(self, job: Job, ahead: bool = False) -> FrameDecoder:
        """Return the codec's `decoder` of a job's picture."""
        # Without a sound key points move the lips, and the flow describes them better than a close-up's controls.
        mouth = self.uses_audio(job) or self.model.codec.same_close_ups
        close_ups = [c for c in job.reference.close_ups if c.part is not MOUTH or mouth]
        reference = job.reference
        layers = None if job.arms is None else job.arms.layers
        return self.model.codec.decoder(reference.small, reference.large, close_ups, layers, ahead)

    def slow_noises(self, job: Job, generator: torch.Generator) -> SlowNoises | None:
        """Begin the slow noise of clip after clip; None for presets without it."""
        preset, reference = self.model.network.preset, job.reference
        if not preset.sampling.slow_noise:
            return None
        share = job.slow_noise * torch.from_numpy(moving_parts(reference.keypoints, reference.latent.shape[-2:]))
        # Noise that changes at once in every frame is stiller, so less movement than usual has less of both.
        rest = preset.sampling.slow_noise_correlation * min(1.0, job.slow_noise / preset.sampling.slow_noise)
        frames = job.clip or preset.frames
        return SlowNoises(share[None, None, None], preset.flow_channels, frames, generator, rest)


class Rendering:
    """One job while its frames are made: the streams it reads, and its savings of memory."""

    def __init__(
        self,
        renderer: Renderer,
        job: Job,
        warn: Callable[[str], None],
        on_step: Callable[[int, int], None] | None = None,
        store: ClipStore | None = None,
    ) -> None:
        self.renderer, self.job, self.warn, self.on_step, self.store = renderer, job, warn, on_step, store
        self.network, self.codec = renderer.model.network, renderer.model.codec
        self.worker = BackgroundWorker()
        self.recorded = RecordedNetwork(self.network, warn, self.worker.settle) if renderer.graphs else None
        exported = renderer.exported
        self.exported = None if exported is None else ExportedNetwork(self.network, warn, exported)
        self.memory = MemoryFallback(
            renderer.model, renderer.device, job.guidance.branches, renderer.overlap, self.worker.settle, self.recorded
        )
        self.clip_frames = job.clip or self.network.preset.frames
        self.generator = torch.Generator().manual_seed(job.config.seed)
        self.slow_noises = renderer.slow_noises(job, self.generator)
        last = None if store is None else store.last
        if last is None:
            self.begin(0)
        else:
            self.begin((last.index + 1) * self.clip_frames, last.latents)
            self.go_on_from(last)

    def begin(self, frame: int, before: Tensor | None = None) -> None:
        """Begin the streams at a frame; before: latents (1, n, C, h, w) that end with the frame before it."""
        self.first, self.before = frame, before
        self.known: tuple[Tensor, Features] | None = None  # motion frames' latents, and what was encoded of them
        in_clips = self.renderer.uses_audio(self.job) and not self.network.preset.sampling.overlap
        self.speech = self.stream_speech(frame) if in_clips else None
        self.blinks = itertools.islice(self.draw_blinks(), frame if self.network.preset.face_state else 0, None)

    def stream_speech(self, frame: int) -> Iterator[Tensor]:
        """Stream the speech features from a frame of what is sampled; a loop's lead hears the end of the sound."""
        job, left = self.job, self.job.lead - frame
        if left > 0:
            yield from itertools.islice(self.renderer.stream_speech(job, job.total - left), left)
        yield from self.renderer.stream_speech(job, max(-left, 0))

    def draw_blinks(self) -> Iterator[float]:
        """Draw how far the lids are shut in each frame of what is sampled; a loop's lead blinks as its end does."""
        job = self.job
        times = (number / job.config.fps for number in itertools.count())
        drawn = blinks(np.random.default_rng([job.config.seed, _BLINKS]), times)
        if not job.lead:
            return drawn
        shut = open_at_end(list(itertools.islice(drawn, job.total)))
        return itertools.chain(shut[-job.lead :], shut, itertools.repeat(0.0))

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the frames; with `overlap` a clip is decoded while the next one is denoised."""
        canvas = self.job.reference.large_canvas
        pending: tuple[Tensor, int, Future[np.ndarray | None]] | None = None  # a clip that the worker decodes
        with self.worker:
            clips, lead = self.latents(), self.job.lead
            first = self.clip_frames * (0 if self.store is None else self.store.encoded)
            for index, z in enumerate(close_loop(clips, lead, self.job.total) if lead else clips):
                if pending is not None:
                    yield from crop_back(self.finish(*pending), canvas)
                    pending = None
                if self.memory.overlapped and index:
                    pending = z, first, self.worker.start(partial(self.try_decode, z, first))
                else:  # also the first clip, so that its frames come before the second is denoised
                    yield from crop_back(self.decode(z, first), canvas)
                first += z.shape[1]
            if pending is not None:
                yield from crop_back(self.finish(*pending), canvas)

    def go_on_from(self, last: ClipState) -> None:
        """Bring what draws noise to where it was after a clip."""
        self.generator.set_state(last.generator)
        if self.slow_noises is not None and last.slow_noise is not None:
            self.slow_noises.white = last.slow_noise

    def latents(self) -> Iterator[Tensor]:
        """Yield the latents (1, F, C, h, w) of the video, clip after clip, from the first that is not encoded yet."""
        preset, renderer, store = self.network.preset, self.renderer, self.store
        if preset.sampling.overlap:
            whole = self.kept_windows() if store is None or (kept := store.whole()) is None else kept
            clips = whole.to(renderer.device, renderer.dtype).split(preset.frames, 1)
            yield from clips[0 if store is None else store.encoded :]
            return
        if store is not None:
            for z in store.kept():
                yield z.to(renderer.device, renderer.dtype)
        left = plan_clips(self.job.lead + self.job.total, self.clip_frames, self.first)
        before = None if self.before is None else self.before.to(renderer.device, renderer.dtype)
        for clip, z in denoise_clips(left, self.sample, preset.motion_frames, before):
            if store is not None:
                white = None if self.slow_noises is None else self.slow_noises.white
                store.keep(ClipState(clip.index, z, self.generator.get_state(), white))
            yield z

    def kept_windows(self) -> Tensor:
        """Sample the whole video in windows, and keep its latents where there is a store."""
        z = self.sample_windows()
        if self.store is not None:
            self.store.keep_whole(z)
        return z

    @torch.inference_mode()
    def sample_windows(self) -> Tensor:
        """Sample the latents (1, total, C, h, w) of the whole video in overlapping windows.

        With a store they are kept after each step, and sampling goes on from there.
        """
        preset, job, renderer, store = self.network.preset, self.job, self.renderer, self.store
        speech = None
        if renderer.uses_audio(job):
            speech = self.memory.attempt("speech", partial(renderer.write_speech, job), self.warn)

        def conditions(window: Window) -> Conditions:
            audio = None
            if speech is not None:
                heard, fps = preset.audio, job.config.fps
                runs = [speech.windows(*run, fps, heard.tokens, heard.centred) for run in consecutive(window)]
                audio = torch.cat(runs)[None].to(renderer.device, renderer.dtype)
            pose = poses_of(job.pose_source, window)
            return renderer.clip_conditions(job, pose, len(window), audio, None)

        if store is not None and (kept := store.step()) is not None:
            taken, z = kept.taken, kept.latents.to(renderer.device, renderer.dtype)
        else:
            size = job.reference.latent.shape[-2:]
            taken = 0
            z = draw_window_noise(preset, job.total, size, self.generator, renderer.device, renderer.dtype)
        with self.network.denoising_unet.fixed_weights():
            return denoise_windows(
                preset,
                z,
                WindowPredictor(self.network, conditions, job.guidance, self.memory, self.warn),
                steps=job.config.steps,
                guided=job.guidance.acts_at,
                at_once=self.memory.windows_at_once,
                on_step=self.on_step,
                taken=taken,
                keep=None if store is None else store.keep_step,
            )

    @torch.inference_mode()
    def sample(self, clip: Clip, past: Tensor | None) -> Tensor:
        """Sample the latents (1, F, C, h, w) of a clip after `past`, the motion frames' latents."""
        audio = self.read_speech(clip)
        pose = self.job.pose_source(clip.start, clip.frames)
        slow_noise = next(self.slow_noises) if pose.undriven and self.slow_noises is not None else None
        shut = self.lids(pose, clip.frames)
        motion = self.motion_latents(past, pose)
        features = None
        if self.known is not None and motion is not None and torch.equal(self.known[0], motion):
            features = self.known[1]
        before = self.generator.get_state()

        def attempt() -> Tensor:
            self.generator.set_state(before)  # a second attempt draws the same noise
            conditions = self.renderer.clip_conditions(self.job, pose, clip.frames, audio, motion, shut, features)
            z = self.denoise(conditions, slow_noise)
            return self.postprocess(z, past, pose, audio is not None, conditions.pose_coverage)

        return self.memory.attempt("network", attempt, self.warn)

    @torch.inference_mode()
    def encode_motion(self, latents: Tensor) -> None:
        """Encode the end of a clip's latents (1, F, C, h, w) as motion frames, before the next clip's sound is known.

        It is not for presets with `portrait`.
        """
        past = clip_end(latents, self.network.preset.motion_frames)
        if past is not None:
            encode = partial(self.renderer.motion_features, self.job, past)
            self.known = past, self.memory.attempt("network", encode, self.warn)

    def motion_latents(self, past: Tensor | None, pose: PoseCondition) -> Tensor | None:
        """Make the latents of the motion frames, of the latents `past` that the last clip ended with.

        They are the same; for presets with `portrait` they go through pictures, from which Hallo2 takes pixels.
        """
        portrait = self.network.preset.portrait
        if portrait is None:
            return past
        keep = None
        if portrait.motion_drop:
            drawn = torch.rand(pose.pose.shape[-2:], generator=self.generator)
            keep = (drawn > portrait.motion_drop) | (pose.pose[0, 0, 0] > 0).cpu()  # the face stays
        through = partial(self.renderer.motion_through_pictures, self.job, past, keep)
        return self.memory.attempt("codec", through, self.warn)

    def lids(self, pose: PoseCondition, frames: int) -> Tensor | None:
        """Say how far the lids are shut (1, frames): as the key points do, else as the seed says.

        None for presets without it.
        """
        if not self.network.preset.face_state:
            return None
        drawn = torch.tensor([list(itertools.islice(self.blinks, frames))])
        shut = drawn if pose.shut is None else pose.shut
        return (shut * self.job.blink).to(self.renderer.device, self.renderer.dtype)

    def read_speech(self, clip: Clip) -> Tensor | None:
        """Take the clip's speech features (1, F, tokens, layers, D) from the stream.

        None where no sound moves the lips. After the end of the sound the last frame's features are repeated.
        """
        if self.speech is None:
            return None
        windows = self.memory.attempt("speech", partial(self._next_windows, clip), self.warn)
        windows += windows[-1:] * (clip.frames - len(windows))
        return torch.stack(windows)[None].to(self.renderer.device, self.renderer.dtype)

    def _next_windows(self, clip: Clip) -> list[Tensor]:
        assert self.speech is not None
        try:
            return list(itertools.islice(self.speech, clip.frames))
        except Exception:  # it has ended the stream, so a second attempt starts a new one at this clip
            self.speech = self.stream_speech(clip.start)
            raise

    def denoise(self, conditions: Conditions, slow_noise: SlowNoise | None) -> Tensor:
        """Denoise one clip with its conditions -> latents (1, F, C, h, w)."""
        preset, config, latent = self.network.preset, self.job.config, self.job.reference.latent
        with self.network.denoising_unet.fixed_weights():
            return denoise_clip(
                self.network,
                conditions,
                (1, self.clip_frames, preset.latent_channels, *latent.shape[-2:]),
                steps=config.steps,
                guidance=replace(self.job.guidance, one_by_one=self.memory.one_by_one),
                generator=self.generator,
                cache_blocks=config.cache_blocks,
                slow_noise=slow_noise,
                predictor=self.recorded or self.exported,
            )

    def postprocess(
        self, z: Tensor, past: Tensor | None, pose: PoseCondition, speaks: bool, coverage: Tensor | None = None
    ) -> Tensor:
        """Smooth a body that speech alone moves, and place the face's controls (`sampler.postprocess`).

        speaks: whether a sound moves the lips. coverage: `Conditions.pose_coverage`.
        """
        preset = self.network.preset
        if pose.undriven and preset.traits.relative:  # key points are followed frame by frame
            smooth = smooth_over_time(z, past, preset.control_channels)
            z = smooth if coverage is None else torch.lerp(smooth, z, coverage)
        return place_face_controls(z, pose.control_maps) if speaks and preset.control_channels else z

    @cached_property
    def decoder(self) -> FrameDecoder:
        """The decoder of this job's picture."""
        return self.renderer.decoder(self.job)

    def _decode(self, z: Tensor, first: int) -> np.ndarray:
        return self.renderer.decode(self.job, z, self.memory.frames_at_once, self.decoder, first)

    def decode(self, z: Tensor, first: int = 0) -> np.ndarray:
        """Decode a clip that begins at frame `first` in this thread, with as many savings of memory as it needs."""
        return self.memory.attempt("codec", partial(self._decode, z, first), self.warn)

    def try_decode(self, z: Tensor, first: int) -> np.ndarray | None:
        """Decode a clip in the worker's thread; None where memory is short.

        The exception stays in the thread, because it would keep the memory of the attempt.
        """
        try:
            return self._decode(z, first)
        except (RuntimeError, MemoryError) as error:
            if not lacks_memory(error):
                raise
        return None

    def finish(self, z: Tensor, first: int, future: Future[np.ndarray | None]) -> np.ndarray:
        """Wait for the worker's frames, or decode them in this thread where the worker had too little memory."""
        if (frames := future.result()) is not None:
            return frames
        self.memory.stop_overlap(self.warn)
        return self.decode(z, first)
