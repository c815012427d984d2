"""CyberHost: from a picture, a sound and a driving sequence to frames.

The paper's settings, `animate` (A2V), `reenact` (V2V) and `multimodal`, differ in the source of the pose conditions
(`runtime.pose_source`); the rest is shared.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cyberhost_model.codecs.arm_layers import ArmLayers
from cyberhost_model.config import LARGEST, GenerationConfig, SamplingConfig
from cyberhost_model.device import choose_device, keep_freed_memory
from cyberhost_model.errors import InputError, OutputError, ResourceError
from cyberhost_model.hub.capabilities import capabilities_of, check_command, check_trained
from cyberhost_model.hub.repository import Access, accessing
from cyberhost_model.marks.marking import FrameDigests, Marks
from cyberhost_model.marks.run_code import number_of
from cyberhost_model.media.audio import Sound, load_audio
from cyberhost_model.media.files import digest_of, written_folder
from cyberhost_model.media.image import check_picture, load_picture
from cyberhost_model.media.output_form import OutputForm
from cyberhost_model.media.video_writer import check_output, write_video
from cyberhost_model.model.checkpoint import load_preset, read_untrained
from cyberhost_model.model.compiling import check_compiler, compile_blocks
from cyberhost_model.perception.detector import analyse
from cyberhost_model.perception.keypoints import LIPS, SURE, VISIBLE, Keypoints
from cyberhost_model.runtime.clip_store import ClipStore
from cyberhost_model.runtime.gestures import gestures_asked, live_gestures, speech_gestures, within_reach
from cyberhost_model.runtime.live import (
    LOW_DELAY,
    SHORTEST_CLIP,
    LiveSession,
    check_live,
    export_steps,
    in_time,
    keeps_up,
    warm_up,
)
from cyberhost_model.runtime.loading import Model, find_model, load_model, model_capabilities, save_model
from cyberhost_model.runtime.memory import enough_memory
from cyberhost_model.runtime.pose_source import (
    DrivenArms,
    PoseSource,
    cut_arms,
    driven_arms,
    face_source,
    hands_source,
    keep_hands,
    moved_hands,
    movement_source,
    skeleton_source,
)
from cyberhost_model.runtime.prepare import (
    HALF_BODY_SHARE,
    HalfBody,
    Reference,
    half_body_crop,
    head_crop,
    prepare_reference,
    shows_more_than_a_head,
    shows_only_a_head,
    without_hands,
)
from cyberhost_model.runtime.publish import copy_model, gather, publish
from cyberhost_model.runtime.render import ENDLESS, Job, Renderer
from cyberhost_model.runtime.resume import LARGE, Film, write_resumable
from cyberhost_model.sampler.cuda_graphs import graphs_pay_off
from cyberhost_model.sampler.guidance import Guidance
from cyberhost_model.sampler.noise import movement_scale, slow_share
from cyberhost_model.sampler.onnx_steps import Exported, check_onnx
from cyberhost_model.speech.level import SpeechLevel
from cyberhost_model.speech.live import LOOK_AHEAD, LiveSpeech

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from cyberhost_model.config import DenoisingKeywords, GenerationKeywords, Preset
    from cyberhost_model.driving.sequence import PoseSequence

BODY_MOVEMENT = 0.1
"""Default amount in 0..1: the movement boxes of half-second training clips are small."""
HAND_CLARITY = 0.5
"""Default score: near the 90th percentile of the training data (section 3.3: "a higher clarity score is applied")."""

NO_LOOP = "this model makes no loops: its latents are whole pictures, and the mean of two is a blur"

PathLike = str | os.PathLike[str]
PictureInput = str | os.PathLike[str] | np.ndarray
"""A file, or uint8 (H, W, 3) RGB."""
Pictures = PictureInput | Sequence[PictureInput]
"""One picture, or several of the same person, of which the first is the one that moves."""
AudioInput = str | os.PathLike[str] | Sound
Progress = Callable[[int, int | None], None]
"""Called as progress(done, total); total is None where it is not known."""


@dataclass
class Animation:
    """A video whose frames are computed when they are read: iterate `frames` once, or call `save`."""

    frames: Iterator[np.ndarray]
    """uint8 (H, W, 3) RGB, one at a time."""
    n_frames: int
    fps: float
    size: tuple[int, int]
    """(W, H), both even, of the picture's aspect ratio."""
    sound: Sound | None
    """None: the video is silent."""
    warnings: list[str] = field(default_factory=list)
    """Lines for the user ("the sound is silent ...", "3 faces ..."); some are added while frames are made."""
    job: Job | None = None
    """Everything the frames depend on, except the model."""
    inputs: tuple[Path, ...] = ()
    """Files that it is made of; what they say of themselves is kept in the video's marks."""
    run: int | None = None
    """The number of the run, of 32 bits, that the marks carry; None: it is made of the `facts` given to `save`."""
    edited: bool = False
    """Whether it is a filmed video of which the model made a part; the marks say so."""
    on_step: Callable[[int, int], None] | None = None
    """Called as on_step(step, steps) by models that denoise a whole video in windows, before its first frame."""
    render: Callable[[ClipStore | None], Iterator[np.ndarray]] | None = None
    """Makes the frames once more, from where a store of finished clips ends."""
    clip: int = 1
    """Frames that are made together."""

    @property
    def fits(self) -> bool:
        """Whether there is a sound and the frames cover it exactly, as `Sound.n_frames` counts them."""
        return self.sound is not None and 0 <= self.n_frames / self.fps - self.sound.duration < 1 / self.fps

    def save(
        self,
        out: str | os.PathLike[str],
        overwrite: bool = False,
        progress: Progress | None = None,
        *,
        marks: Marks | None = None,
        form: OutputForm | None = None,
        digests: FrameDigests | None = None,
        facts: Mapping[str, str] | None = None,
        resume: bool = True,
        tell: Callable[[str], None] = lambda line: None,
    ) -> Path:
        """Write frames and sound, as H.264 and AAC unless `out` ends in .webm. `out` appears only when it is complete.

        marks: by which the video says that it was made; None: the default ones, the watermark among them. form:
        subtitles, another background or none (docs/user/forms.md). digests: notes the frames as the model makes them.
        facts: keep the finished part in a folder beside `out` until it is whole, so that the same call goes on where
        this one was stopped. They name what the frames depend on (`runtime.resume.facts_of`); without them nothing is
        kept. resume: False begins anew. tell: called with lines for the user, such as where it goes on. Raises
        OutputError, InputError for a form that cannot be, and what `Marks.signing` does.
        """
        seconds = None if self.fits else self.n_frames / self.fps
        marks, form = marks or Marks(), form or OutputForm()
        check_output(out, overwrite)
        form.check(Path(out))
        subtitles = form.open_subtitles()
        if subtitles is not None and subtitles.end > self.n_frames / self.fps + 1:
            tell(f"the subtitles end {subtitles.end - self.n_frames / self.fps:.1f} s after the video")
        cut_out = self._cut_out(form)
        if self.run is None and facts is not None:
            self.run = number_of(facts)
        run = self.run
        finish = marks.signing(Path(out).name, self.inputs, run, self.edited)
        noted = iter if digests is None else digests.note
        if facts is not None and self.render is not None:
            render = self.render
            facts = {**facts, "marks": f"watermark {marks.watermark}, label {marks.label}", **form.facts()}
            facts["record"] = "none" if digests is None else "kept"
            film = Film(
                lambda store: marks.frames(cut_out(noted(render(store)), self._begins_at(store)), run),
                self.n_frames,
                self.clip,
                self.size,
                self.fps,
                self.sound,
                seconds,
                lambda: marks.tags(self.inputs, run, self.edited),
                finish,
                begin=lambda store: None if digests is None else self._begin(digests, store),
                subtitles=subtitles,
                alpha=form.alpha,
            )
            return write_resumable(film, out, facts, resume=resume, overwrite=overwrite, progress=progress, tell=tell)
        if digests is not None:
            digests.begin()
        return write_video(
            marks.frames(cut_out(noted(self.frames), 0), run),
            out,
            self.fps,
            self.sound,
            overwrite=overwrite,
            total=self.n_frames,
            progress=progress,
            sound_seconds=seconds,
            tags=marks.tags(self.inputs, run, self.edited),
            finish=finish,
            subtitles=subtitles,
        )

    def _begins_at(self, store: ClipStore | None) -> int:
        """Number of the first frame that is not in the video yet."""
        return 0 if store is None else min(store.encoded * self.clip, self.n_frames)

    def _cut_out(self, form: OutputForm) -> Callable[[Iterator[np.ndarray], int], Iterator[np.ndarray]]:
        """Prepare the way of frames, from the one of some number on, to those of `form`.

        Raises InputError for a background that cannot be read.
        """
        if not form.cuts_out:
            return lambda frames, first: iter(frames)
        if self.job is None:
            raise InputError("a film keeps its background: background and alpha are for pictures")
        from cyberhost_model.runtime.cutout import Cutout

        return Cutout(form.open_background(), self.job.reference, self.job.arms).frames

    def _begin(self, digests: FrameDigests, store: ClipStore | None) -> None:
        """Begin noting frames where `store` ends. Raises OutputError."""
        file = None if store is None else store.folder / "frames.sha256"
        try:
            digests.begin(file, self._begins_at(store))
        except (OSError, ValueError) as error:
            raise OutputError(f"{file}: cannot be gone on with ({error}); begin anew with --no-resume") from None


class CyberHost:
    """The paper's model with its inputs and outputs.

    Make one with `from_pretrained`; it can animate any number of pictures.
    """

    def __init__(
        self,
        model: Model,
        device: torch.device,
        dtype: torch.dtype,
        compiled: bool = False,
        cuda_graphs: bool | None = None,
        onnx: bool = False,
    ):
        check_acceleration(device, False, cuda_graphs)  # `compile_blocks` looks for a compiler itself
        if onnx:
            check_onnx(device, dtype)
        if device.type == "cpu":
            keep_freed_memory()
        self.model, self.device, self.dtype = model.to(device, dtype), device, dtype
        self.folder: Path | None = None
        """Folder it was loaded from."""
        self.overlap = device.type == "cuda"
        """Whether a clip is decoded while the next one is denoised. The frames are the same.

        Not on a CPU, where both would use the same cores.
        """
        self.cuda_graphs = graphs_pay_off(self.model.network, device) if cuda_graphs is None else cuda_graphs
        self.exported: Exported | None = {} if onnx else None
        """Steps that were exported for onnxruntime; None where torch runs them."""
        if compiled:
            compile_blocks(self.model.network)

    @classmethod
    def from_pretrained(
        cls,
        model: PathLike = "tiny",
        device: str = "auto",
        precision: str = "auto",
        compiled: bool = False,
        cuda_graphs: bool | None = None,
        allow_untrained: bool = False,
        download_named: bool = True,
        onnx: bool = False,
        *,
        revision: str | None = None,
        token: str | None = None,
        local_files_only: bool = False,
    ) -> CyberHost:
        """Load a model by its name: "tiny" (inside the package), a folder, or a Hub id.

        compiled: see `compile_blocks`. cuda_graphs: see `RecordedNetwork`; None: where that pays off. allow_untrained:
        load it though what hears or what holds frames together was never trained. download_named: see `load_model`.
        onnx: see `ExportedNetwork`.
        revision (a branch, tag or commit), token, local_files_only: as everywhere in huggingface_hub. Raises
        ModelError, NetworkError, ResourceError.
        """
        # Before the model is fetched, so that a machine that cannot run it reports that first.
        place, dtype = choose_device(device, precision)
        check_acceleration(place, compiled, cuda_graphs)
        if onnx:
            check_onnx(place, dtype)
        name = os.fspath(model) if revision is None else f"{os.fspath(model)}@{revision}"
        with accessing(Access(token, local_files_only)):
            if not allow_untrained and (can := model_capabilities(name)) is not None:
                check_trained(name, can.untrained)  # before gigabytes are fetched
            folder = find_model(name)
            if not allow_untrained:
                check_trained(name, read_untrained(folder))
            place, dtype = choose_device(device, precision, load_preset(folder))
            with enough_memory(place, "load the model"):
                loaded = load_model(str(folder), download_named, place, dtype)
                host = cls(loaded, place, dtype, compiled, cuda_graphs, onnx)
        host.folder = folder
        return host

    @functools.cached_property
    def folder_digest(self) -> str | None:
        """Digest of the folder it was loaded from, computed once (`media.files.digest_of`); None without one."""
        return None if self.folder is None else digest_of(self.folder, LARGE)

    def save_pretrained(self, folder: PathLike) -> Path:
        """Write the model as a folder that `from_pretrained` loads; it must not exist.

        It is the one it was loaded from, file by file; weights that were changed since are not in it. A model that was
        put together in Python is written as `save_model` does. Raises OutputError.
        """
        with written_folder(Path(folder)) as made:
            if self.folder is None:
                save_model(self.model, made)
            else:
                copy_model(self.folder, made)
        return Path(folder)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        licence: str | None = None,
        private: bool | None = None,
        commit_message: str | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
    ) -> str:
        """Publish the model as `save_pretrained` writes it, with its card; returns the address of the commit.

        licence: for the card, where the model has none. The other names are huggingface_hub's. Raises ModelError,
        NetworkError.
        """
        with tempfile.TemporaryDirectory() as made:
            if self.folder is None:
                save_model(self.model, made)
            else:
                gather(self.folder, Path(made))
            return publish(
                made,
                repo_id,
                licence=licence,
                private=private,
                message=commit_message,
                token=token,
                revision=branch,
                create_pr=create_pr,
            )

    @property
    def renderer(self) -> Renderer:
        """Renderer of this model on this device."""
        return Renderer(self.model, self.device, self.dtype, self.overlap, self.cuda_graphs, self.exported)

    def animate(
        self,
        picture: Pictures,
        audio: AudioInput,
        *,
        body_movement: float | None = None,
        gestures: bool | None = None,
        loop: bool = False,
        **options: Unpack[GenerationKeywords],
    ) -> Animation:
        """Make the person in `picture` speak `audio` (A2V-B of the paper; A2V-H with `head`).

        picture: one, or several of the same person (`open_pictures`); so it is in `reenact` and `multimodal`.
        body_movement: 0 still .. 1 lively. gestures: whether hands that the picture shows gesture with the speech
        (`driving.speech_gesture`), by default as the model's `sampling.gestures` says; otherwise the network alone
        moves them. Networks that move by poses of the hands always have them. loop: the end leads into the beginning
        (`sampler.loop`), and hands do not gesture; for models of relative latents. options: the fields of
        `GenerationConfig`. Picture and sound are checked now, frames are made when they are read. Raises InputError
        and NoFaceError.
        """
        self._check_command("animate")
        if self.model.network.preset.task == "multimodal":
            if loop:
                raise InputError(NO_LOOP)
            return self.multimodal(picture, audio, None, body_movement=body_movement, **options)
        config, sound = GenerationConfig(**options), open_sound(audio)
        reference, warnings = self.open_pictures(picture, config)
        animation = self.animate_reference(reference, config, sound, body_movement, gestures, warnings, loop)
        return _made_of(animation, picture, audio)

    def animate_reference(
        self,
        reference: Reference,
        config: GenerationConfig,
        sound: Sound,
        body_movement: float | None = None,
        gestures: bool | None = None,
        warnings: Sequence[str] = (),
        loop: bool = False,
    ) -> Animation:
        """Make the same as `animate` of a picture that `open_picture` has prepared."""
        amount, total, preset = check_movement(body_movement), sound.n_frames(config.fps), self.model.network.preset
        if loop and gestures:
            raise InputError("hands that gesture do not come back to where they began: leave out gestures or loop")
        lead = loop_lead(preset, total, config.fps) if loop else 0
        if gestures_asked(preset, reference, False if loop else gestures):
            movement = movement_scale(amount, BODY_MOVEMENT)
            layers = cut_arms(preset, reference)
            hands = speech_gestures(preset, reference, sound, total, config, movement, SURE)
            source, arms = self._hands_source(reference, hands, amount, layers)
        else:
            source, arms = self._speech_source(reference, amount), None
        return self._animation(reference, config, source, total, sound, list(warnings), amount, lead, arms)

    def live(
        self,
        picture: PictureInput,
        *,
        body_movement: float | None = None,
        gestures: bool | None = None,
        low_delay: bool = False,
        look_ahead: float | None = None,
        clip: int | None = None,
        keep_up: bool = False,
        level: SpeechLevel | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> LiveSession:
        """Begin to make the person in `picture` speak a sound that comes in pieces (docs/user/live.md).

        gestures: as in `animate`; strokes go as far as there is time for once their syllable is known. low_delay: one
        step, clips of 6 frames and 0.12 s of look-ahead, where they are not given (`runtime.live.LOW_DELAY`); with
        keep_up only where this machine is quick enough for that, whose frames cost more.
        look_ahead: seconds of speech after a clip that its frames are made with, 0..0.2; None: 0.2. clip: frames that
        are made together, by default (and at most) as many as the network was trained with; fewer come sooner.
        keep_up: take fewer steps where this machine is too slow for the sound, which it finds out by making a few
        clips (`LiveSession.steps`). level: of the voice (`model.speech.level` of a recording of it); None: it is
        measured while the sound goes by. The others are those of `animate`. Raises InputError and NoFaceError.
        """
        self._check_command("animate")
        preset = self.model.network.preset
        check_live(preset)
        usual: dict[str, Any] = {"look_ahead": look_ahead, "clip": clip, **options}
        if low_delay:
            look_ahead = LOW_DELAY.look_ahead if look_ahead is None else look_ahead
            clip = min(LOW_DELAY.clip, preset.frames) if clip is None else clip
            if options.get("steps") is None:
                options["steps"] = LOW_DELAY.steps
        look_ahead = LOOK_AHEAD if look_ahead is None else look_ahead
        if not 0 <= look_ahead <= LOOK_AHEAD:
            raise InputError(f"look_ahead must be within 0..{LOOK_AHEAD} seconds, not {look_ahead}")
        clip = preset.frames if clip is None else clip
        if not SHORTEST_CLIP <= clip <= preset.frames:
            raise InputError(f"a clip must have between {SHORTEST_CLIP} and {preset.frames} frames, not {clip}")
        config, amount = GenerationConfig(**options), check_movement(body_movement)
        reference, warnings = self.open_picture(picture, config)
        speech = LiveSpeech(self.model.speech, config.fps, clip, preset.audio.tokens, look_ahead, level)
        source, arms = movement_source(reference, amount), None
        if gestures_asked(preset, reference, gestures):
            movement = movement_scale(amount, BODY_MOVEMENT)
            layers = cut_arms(preset, reference)
            make = live_gestures(preset, reference, speech, config, movement)
            source, arms = hands_source(preset, reference, make, layers, source)
        job = replace(self._job(reference, config, source, ENDLESS, None, amount), arms=arms)
        # Decoding beside the next clip would hold frames back that are certain.
        renderer, job = replace(self.renderer, overlap=False), replace(job, speech=speech.windows, clip=clip)
        export_steps(renderer, job, warnings.append)
        if keep_up and low_delay and not keeps_up(renderer, job):
            amounts: dict[str, Any] = {"body_movement": body_movement, "gestures": gestures, "level": level}
            session = self.live(picture, keep_up=True, **amounts, **usual)
            session.warnings.append("no low delay, because this machine is too slow for it")
            return session
        if keep_up:
            job, told = in_time(renderer, job)
            warnings += told
        else:
            warm_up(renderer, job, warnings.append)
        return LiveSession(renderer, job, speech, warnings)

    def reenact(
        self,
        picture: Pictures,
        driving: PathLike | PoseSequence,
        *,
        audio: AudioInput | None = "keep",
        retarget: bool = True,
        progress: Progress | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> Animation:
        """Make the person in `picture` move as the person in `driving` (V2V-B, section 4.2).

        Skeleton maps take the place of the body movement map. driving: a video, a key point file
        (docs/reference/file-formats.md) or a `PoseSequence`; the video is as long. audio: "keep" takes the driving
        video's sound, None makes a silent video, anything else is the sound; it moves the lips together with the key
        points. retarget: convert key points to the picture's proportions. progress: called while a driving video is
        read. Raises InputError and NoFaceError.
        """
        from cyberhost_model.driving.retarget import retarget as to_proportions

        self._check_command("reenact")
        config = GenerationConfig(**options)
        reference, warnings = self.open_pictures(picture, config)
        poses, from_video = self._open_driving(driving, progress)
        notes = list(poses.warnings)
        keep = isinstance(audio, str) and audio == "keep"
        if keep:
            sound = _sound_of_video(driving, notes) if from_video else None  # type: ignore[arg-type]
        else:
            sound = None if audio is None else open_sound(audio)
        if retarget:
            poses = to_proportions(poses, reference.picture_keypoints, reference.canvas.picture_size)
        else:
            poses = _unchanged(poses, driving, reference)
        poses = poses.resampled(config.fps)
        if from_video and not self.model.detector.reads_lips:
            if sound is not None and self.model.network.preset.uses_audio:
                poses.face_score[:, LIPS] = 0  # the sound moves them
            else:
                notes.append(
                    "the lips hardly move: there is no sound that moves them, and the key point detector does not "
                    "follow lips"
                )
        if not keep:
            notes += _length_note(sound, len(poses) / config.fps, 0.5 / config.fps)
        preset = self.model.network.preset
        layers = cut_arms(preset, reference, moved_hands(poses))
        poses, kept = keep_hands(preset, reference, poses, layers)
        poses, limits = within_reach(preset, reference, poses)
        source, arms = skeleton_source(preset, reference, poses), driven_arms(reference, poses, layers)
        animation = self._animation(
            reference, config, source, len(poses), sound, [*warnings, *notes, *kept, *limits], arms=arms
        )
        return _made_of(animation, picture, driving, None if keep else audio)

    def multimodal(
        self,
        picture: Pictures,
        audio: AudioInput,
        hands: PathLike | PoseSequence | None = None,
        *,
        retarget: bool = True,
        body_movement: float | None = None,
        progress: Progress | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> Animation:
        """Make the person in `picture` speak `audio` while the hands follow `hands` (section 4.4).

        Speech moves head, face and lips. hands: the name of a bundled gesture template, a key point file
        (docs/reference/file-formats.md), a pose folder of EchoMimicV2, a video, or a `PoseSequence`; repeated without a
        jump to the sound's length. None: gestures that the seed chooses and the speech times
        (`driving.speech_gesture`); body_movement: 0 none .. 1 lively. retarget: convert key points to the picture's
        proportions and the position of its hands. Raises InputError and NoFaceError.
        """
        from cyberhost_model.driving.retarget import hands_for
        from cyberhost_model.driving.sequence import PoseSequence
        from cyberhost_model.driving.template import fit_length, load_template

        self._check_command("multimodal")
        amount = check_movement(body_movement)
        config, sound = GenerationConfig(**options), open_sound(audio)
        reference, warnings = self.open_pictures(picture, config)
        total = sound.n_frames(config.fps)
        preset, size = self.model.network.preset, reference.canvas.picture_size
        if hands is None:
            if reference.picture_keypoints.hands_score.max() <= VISIBLE:
                warnings.append("the picture shows no hands: none are moved")
            movement = movement_scale(amount, BODY_MOVEMENT)
            layers = cut_arms(preset, reference)
            poses = speech_gestures(preset, reference, sound, total, config, movement)
        else:
            template = hands if isinstance(hands, PoseSequence) else load_template(hands, self.model.detector, progress)
            if retarget:
                placed = hands_for(template, reference.picture_keypoints, size)
            else:
                placed = _unchanged(template, hands, reference)
            poses = fit_length(placed, total, config.fps).only("hands")
            layers = cut_arms(preset, reference, moved_hands(poses))
            poses, kept = keep_hands(preset, reference, poses, layers)
            poses, limits = within_reach(preset, reference, poses)
            warnings += [*kept, *limits, *placed.warnings]
        source, arms = self._hands_source(reference, poses, amount, layers)
        animation = self._animation(reference, config, source, total, sound, warnings, amount, arms=arms)
        return _made_of(animation, picture, audio, hands)

    def dub(
        self,
        film: PathLike,
        audio: AudioInput,
        *,
        length: str = "film",
        progress: Progress | None = None,
        **options: Unpack[DenoisingKeywords],
    ) -> Animation:
        """Make the lips of the person in `film` follow `audio`; all else stays as it was filmed (`runtime.dubbing`).

        length: "film", where the sound is cut or followed by silence, or "audio", where the film goes there and back
        for as long as the sound lasts. The frames have the film's size and rate. options: the fields of
        `DenoisingConfig`. progress: called while the film is read for the first time. Raises InputError.
        """
        from cyberhost_model.runtime.dubbing import Dubbing, Film, best_view, track_face, unseen

        self._check_command("dub")
        if length not in ("film", "audio"):
            raise InputError(f"length must be film or audio, not {length!r}")
        sound, source = open_sound(audio), Film.open(Path(film))
        config = GenerationConfig(**options, fps=float(source.fps))
        with enough_memory(self.device, "read the film"):
            self.model.to(self.device, self.dtype)
            track = track_face(source, self.model.detector, config.face, progress)
            reference = best_view(self.model, track)
        total = len(track) if length == "film" else sound.n_frames(config.fps)
        lines = [*sound.warnings, *self._model_warnings(config), *unseen(track)]
        if length == "film":
            lines += _length_note(sound, total / config.fps, 0.5 / config.fps, "film")
        speaks = self._speech_source(reference, BODY_MOVEMENT)
        job = self._job(reference, config, speaks, total, sound, BODY_MOVEMENT)
        dubbing = Dubbing(self.renderer, source, track, replace(job, blink=False))

        def render(store: ClipStore | None) -> Iterator[np.ndarray]:
            return dubbing.frames(lines.append, store)

        size, clip = track.sequence.size, self.model.network.preset.frames
        animation = Animation(
            render(None), total, config.fps, size, sound, lines, edited=True, render=render, clip=clip
        )
        return _made_of(animation, film, audio)

    def open_pictures(self, pictures: Pictures, config: GenerationConfig) -> tuple[Reference, list[str]]:
        """Prepare one picture, or several of the same person; results and errors are those of `open_picture`.

        The first is the one that moves. The network looks at the others too (`Conditions.with_further`): they show it
        what the first one hides. Raises InputError for a model that draws nothing of them.
        """
        first, *further = [pictures] if isinstance(pictures, (str, os.PathLike, np.ndarray)) else pictures
        if not further:
            return self.open_picture(first, config)
        if "ref" not in capabilities_of(self.model.network.preset).options:
            raise InputError("this model draws nothing of further pictures: give one")
        reference, warnings = self.open_picture(first, config)
        shown = []
        for picture in further:
            other, lines = self.open_picture(picture, config)
            shown.append(other.conditions)
            warnings += [line for line in lines if line not in warnings]
        return replace(reference, conditions=reference.conditions.with_further(shown)), warnings

    def _model_warnings(self, config: GenerationConfig) -> list[str]:
        """Make lines for the user about the model, and about settings that it was not made for."""
        sampling, lines = self.model.network.preset.sampling, list(self.model.warnings)
        if sampling.distilled and (config.steps or 0) > sampling.steps:
            lines.append(f"this model learnt to do with {sampling.steps} steps: more make the video worse, not better")
        return lines

    @torch.inference_mode()
    def open_picture(self, picture: PictureInput, config: GenerationConfig) -> tuple[Reference, list[str]]:
        """Check a picture, choose the person that `config.face` names, and prepare it for every clip.

        It is cropped to the head where `config.head` asks for it, to the half body where `config.half_body` does, and
        where the model was trained so. Returns the reference and lines for the user. Raises InputError and NoFaceError.
        """
        name = "the picture" if isinstance(picture, np.ndarray) else str(picture)
        with enough_memory(self.device, "load the model"):
            self.model.to(self.device, self.dtype)  # an earlier video may have offloaded parts (`MemoryFallback`)
        array = check_picture(picture) if isinstance(picture, np.ndarray) else load_picture(picture)
        with enough_memory(self.device, "read the picture"):
            found = analyse(array, self.model.detector, name, config.face)
        keypoints, warnings = found.keypoints, [*self._model_warnings(config), *found.warnings]
        head, portraits = config.head, not self.model.network.preset.follows_poses
        if head is None and portraits and not config.half_body and shows_more_than_a_head(array, keypoints):
            head = True
            warnings.append(f"{name} is cropped to the head, as this model was trained (--no-head keeps it whole)")
        square = (0.0, 1.0)
        if not head and (half := self._half_body(array, keypoints, config.half_body, name)) is not None:
            array, keypoints, square = half.picture, half.keypoints, half.square
            if config.half_body is None:
                warnings.append(
                    f"{name} is cropped to the half body, as this model was trained (--no-half-body keeps it whole)"
                )
        if head:
            array, keypoints = head_crop(array, keypoints)
        elif head is None and shows_only_a_head(keypoints):
            head, keypoints = True, without_hands(keypoints)
            warnings.append(f"{name} shows a head alone: animated as a talking head (--head)")
        with enough_memory(self.device, "read the picture"):
            alone = config.face != LARGEST
            reference = prepare_reference(self.model, array, keypoints, config.size, bool(head), alone)
        return replace(reference, square=square), warnings

    def _half_body(
        self, picture_u8: np.ndarray, keypoints: Keypoints, asked: bool | None, name: str
    ) -> HalfBody | None:
        """Crop a picture to the half body where it is to be. asked: for it, against it, or None for the model's choice.

        Raises InputError where it is asked for and not seen.
        """
        if asked is False or (asked is None and not self.model.network.preset.shows_half_bodies):
            return None
        found = half_body_crop(picture_u8, keypoints)
        if found is None and asked:
            raise InputError(f"{name}: no shoulders found, so there is no half body to crop: leave out --half-body")
        if found is None or (asked is None and found.picture.size > HALF_BODY_SHARE * picture_u8.size):
            return None
        return found

    def _speech_source(self, reference: Reference, amount: float) -> PoseSource:
        """Make the source for a body that speech alone moves by `amount`, as the model takes it."""
        follows = self.model.network.preset.follows_poses
        return movement_source(reference, amount) if follows else face_source(reference)

    def _hands_source(
        self, reference: Reference, hands: PoseSequence, amount: float, layers: ArmLayers | None
    ) -> tuple[PoseSource, DrivenArms | None]:
        """Make the source for a body that speech moves and hands that key points do. layers: see `cut_arms`.

        Models that move the picture's own pixels are told of none.
        """
        preset = self.model.network.preset
        if preset.traits.relative:
            return self._speech_source(reference, amount), driven_arms(reference, hands, layers)
        return skeleton_source(preset, reference, hands, ("hands",)), None

    def _check_command(self, command: str) -> None:
        """Raise InputError for a command that the model cannot run, as the commands do before it is fetched."""
        check_command("this model", capabilities_of(self.model.network.preset), command)

    def _open_driving(self, driving: PathLike | PoseSequence, progress: Progress | None) -> tuple[PoseSequence, bool]:
        """Read the driving's key points -> (them, whether the driving is a video)."""
        from cyberhost_model.driving.pose_folder import is_pose_folder
        from cyberhost_model.driving.sequence import PoseSequence, is_sequence_file
        from cyberhost_model.driving.video import read_driving

        if isinstance(driving, PoseSequence):
            return driving, False
        from_video = not (is_sequence_file(driving) or is_pose_folder(driving))
        return read_driving(driving, self.model.detector, progress), from_video

    def _animation(
        self,
        reference: Reference,
        config: GenerationConfig,
        pose_source: PoseSource,
        total: int,
        sound: Sound | None,
        warnings: list[str],
        amount: float = BODY_MOVEMENT,
        lead: int = 0,
        arms: DrivenArms | None = None,
    ) -> Animation:
        """Make the animation of any setting. amount: of movement in 0..1, where no key points drive the body.

        lead, arms: see `Job`.
        """
        job = replace(self._job(reference, config, pose_source, total, sound, amount), lead=lead, arms=arms)
        sampling = self.model.network.preset.sampling
        notes = [*([] if sound is None else sound.warnings), *warnings]
        if sampling.overlap and config.cache_blocks > 1:
            notes.append("--cache-blocks changes nothing here: this model's windows share no features between steps")

        def on_step(step: int, steps: int) -> None:
            if animation.on_step is not None:
                animation.on_step(step, steps)

        def render(store: ClipStore | None) -> Iterator[np.ndarray]:
            return self.renderer.frames(job, notes.append, on_step, store)

        clip, size = self.model.network.preset.frames, reference.video_size
        kept = None if lead else render  # the end of a loop needs what came before its beginning
        animation = Animation(render(None), total, config.fps, size, sound, notes, job, render=kept, clip=clip)
        return animation

    def _job(
        self,
        reference: Reference,
        config: GenerationConfig,
        pose_source: PoseSource,
        total: int,
        sound: Sound | None,
        amount: float,
    ) -> Job:
        """Gather what the frames depend on. amount: as in `_animation`."""
        sampling = self.model.network.preset.sampling
        shows_hands = reference.keypoints.hands_score.max() >= VISIBLE
        clarity = HAND_CLARITY if config.hand_clarity is None else config.hand_clarity
        return Job(
            reference,
            config,
            pose_source,
            total,
            sound,
            guidance_of(config, sampling),
            clarity=clarity if shows_hands else -1.0,
            blink=config.blink,
            slow_noise=slow_share(amount, BODY_MOVEMENT, sampling.slow_noise),
        )


def _unchanged(poses: PoseSequence, source: object, reference: Reference) -> PoseSequence:
    """Lay poses that are not retargeted onto the picture; those of a pose folder into the square they were made for."""
    from cyberhost_model.driving.pose_folder import is_pose_folder

    if not isinstance(source, (str, os.PathLike)) or not is_pose_folder(source):
        return poses
    left, width = reference.square
    return poses.map(lambda points: points * [width, 1] + [left, 0])


def check_movement(amount: float | None) -> float:
    """Return how far the body moves, by default `BODY_MOVEMENT`. Raises InputError for a number outside 0..1."""
    if amount is None:
        return BODY_MOVEMENT
    if not 0 <= amount <= 1:
        raise InputError(f"body_movement must be between 0 and 1, not {amount!r}")
    return amount


def loop_lead(preset: Preset, total: int, fps: float) -> int:
    """Choose how many frames lead into a loop of `total` frames: two clips, or one for short loops.

    Raises InputError for models that make no loops, and for loops that are too short.
    """
    if not preset.traits.relative:
        raise InputError(NO_LOOP)
    if total < 2 * preset.frames:
        raise InputError(f"a loop must last {2 * preset.frames / fps:.2f} s at least, not {total / fps:.2f} s")
    return preset.frames * (2 if total >= 4 * preset.frames else 1)


def _made_of(animation: Animation, *inputs: object) -> Animation:
    """Note which files an animation is made of; arrays, and names of bundled templates, are none."""
    each = [one for entry in inputs for one in (entry if isinstance(entry, (list, tuple)) else [entry])]
    paths = [entry.path if isinstance(entry, Sound) else entry for entry in each]
    files = [Path(path) for path in paths if isinstance(path, (str, os.PathLike)) and Path(path).is_file()]
    animation.inputs = tuple(dict.fromkeys(files))
    return animation


def guidance_of(config: GenerationConfig, sampling: SamplingConfig) -> Guidance:
    """Combine the guidance of a video's options with the model's defaults."""
    return Guidance(
        sampling.guidance_reference if config.guidance_reference is None else config.guidance_reference,
        sampling.guidance_audio if config.guidance_audio is None else config.guidance_audio,
        config.guidance_interval or Guidance.interval,
        sampling.unguided_pose,
    )


def check_acceleration(device: torch.device, compiled: bool, cuda_graphs: bool | None) -> None:
    """Raise ResourceError where CUDA graphs or compiling are asked for and not available."""
    if cuda_graphs and device.type != "cuda":
        raise ResourceError(
            f"CUDA graphs are for NVIDIA GPUs, and this computes on {device.type}: leave out --cuda-graphs"
        )
    if compiled:
        check_compiler(device)


def open_sound(audio: AudioInput) -> Sound:
    """Read the sound of a file; a `Sound` is returned as it is. Raises InputError."""
    return audio if isinstance(audio, Sound) else load_audio(audio)


def _sound_of_video(video: PathLike, notes: list[str]) -> Sound | None:
    """Read the driving video's sound; without one, add a line to `notes`, and the new video is silent."""
    try:
        return load_audio(video)
    except InputError:
        notes.append(f"{video}: holds no sound that can be read, so the video is silent")
        return None


def _length_note(sound: Sound | None, seconds: float, tolerance: float, what: str = "driving") -> list[str]:
    """Make a line for the user where the sound is longer or shorter than `what` of `seconds`."""
    if sound is None or abs(sound.duration - seconds) <= tolerance:
        return []
    return [f"the sound lasts {sound.duration:.2f} s, the {what} {seconds:.2f} s: it is cut or followed by silence"]
