"""Raw files: frames by their time stamps, sound where it belongs, and files that are no videos."""

import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from raw_videos import RATE, write, write_stamped

from cyberhost_model.lab.filmed.manifest import Reason
from cyberhost_model.lab.filmed.prepare import Job, process_video
from cyberhost_model.lab.filmed.settings import Settings
from cyberhost_model.lab.filmed.source import (
    TimedFrame,
    UnusableVideo,
    frames_at_rate,
    open_video,
    sound_between,
    thumbnail,
    to_rgb,
)
from cyberhost_model.media.ffmpeg import ffmpeg_binary
from cyberhost_model.media.video_reader import stream_frames


def grey(*levels: int) -> list[np.ndarray]:
    return [np.full((64, 96, 3), level, np.uint8) for level in levels]


def test_variable_stamps_become_25_frames_a_second(tmp_path):
    times = [0.0, 0.1, 0.13, 0.16, 0.4, 0.44]
    path = write_stamped(tmp_path / "v.mp4", grey(0, 40, 80, 120, 160, 200), times)
    with open_video(path) as video:
        shown = [round(float(to_rgb(s.frame).mean()) / 40) for s in frames_at_rate(video.frames(), 0.0, 13)]
    # Frame k of the grid shows what was on the screen at k * 40 ms, a frame being due 20 ms early at most.
    assert shown == [0, 0, 1, 2, 3, 3, 3, 3, 3, 3, 4, 5, 5]


def test_a_grid_may_begin_anywhere():
    frames = [TimedFrame(i / 50, i, False) for i in range(100)]
    shown = [s.frame for s in frames_at_rate(frames, 0.5, 4)]
    assert shown == [26, 28, 30, 32]
    assert [s.frame for s in frames_at_rate(frames[:3], 0.0, 4)] == [1, 2, 2, 2]


def test_frames_from_a_time_begin_at_or_before_it(tmp_path):
    path = write(tmp_path / "long.mp4", grey(*range(0, 250, 2)), None)
    with open_video(path) as video:
        whole = {round(s.time * 25): float(to_rgb(s.frame).mean()) for s in video.frames()}
    with open_video(path) as video:
        late = list(video.frames(3.2))
    assert len(whole) == 125 and late[0].time <= 3.2 < late[-1].time
    assert all(abs(float(to_rgb(s.frame).mean()) - whole[round(s.time * 25)]) < 1 for s in late)


def test_colours_and_a_turned_phone(tmp_path):
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, :48], picture[:, 48:] = (200, 30, 60), (20, 180, 90)
    path = write(tmp_path / "c.mp4", [picture] * 3, None)
    with open_video(path) as video:
        frame = next(video.frames()).frame
    assert np.abs(to_rgb(frame)[10, [10, 80]].astype(int) - [(200, 30, 60), (20, 180, 90)]).max() <= 4
    assert to_rgb(frame, aspect=0.5).shape == (64, 48, 3) and to_rgb(frame, longest=48).shape == (32, 48, 3)
    assert thumbnail(frame).shape == (36, 64, 3)

    class Turned:
        """The same frame, marked as turned by a quarter counterclockwise when shown."""

        rotation = 90

        def __getattr__(self, name):
            return getattr(frame, name)

    upright = to_rgb(Turned())
    assert upright.shape == (96, 64, 3)
    assert np.abs(upright[80, 10].astype(int) - (200, 30, 60)).max() <= 4  # what was left is below


def test_sound_lies_where_its_stamps_say(tmp_path):
    ticks = np.zeros(3 * RATE, np.float32)
    ticks[[RATE // 2, 2 * RATE]] = 0.9
    path = write(tmp_path / "s.mp4", grey(*[50] * 75), ticks)
    whole, part = sound_between(path, 0.0, 3.0), sound_between(path, 1.5, 2.5)
    assert abs(len(whole) - 3 * RATE) < 64 and len(part) == RATE
    assert abs(int(np.abs(whole[:RATE]).argmax()) - RATE // 2) <= 8
    assert abs(int(np.abs(part).argmax()) - RATE // 2) <= 8


def test_late_sound_is_preceded_by_silence(tmp_path):
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for i in range(10):
            frame = av.AudioFrame.from_ndarray(np.full((1, 1600), 9000, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, RATE + 1600 * i
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    sound = sound_between(path, 0.5, 1.5)
    assert len(sound) == RATE
    assert np.abs(sound[: RATE // 2 - 40]).max() < 1e-3 and np.abs(sound[RATE // 2 + 40 :] - 9000 / 32768).max() < 1e-3


def moving(count: int) -> list[np.ndarray]:
    """A texture that moves to the right."""
    texture = (
        np.kron(np.random.default_rng(0).integers(0, 255, (12, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8) // 4 + 90
    )
    return [np.roll(texture, i, 1) for i in range(count)]


def test_damage_in_the_middle_is_marked_up_to_the_next_key_frame(tmp_path):
    path = write(tmp_path / "d.mp4", moving(120), None)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = np.random.default_rng(0).bytes(2000)
    path.write_bytes(bytes(data))
    with open_video(path) as video:
        frames = list(video.frames())
    broken = [f.time for f in frames if f.broken]
    assert video.errors.packets > 0 and video.errors.first
    assert len(frames) > 60 and not frames[0].broken and broken
    assert 0.5 < min(broken) < 4.0  # there is one key frame alone, so all that follows is lost
    assert broken == [f.time for f in frames if f.time >= min(broken)]


def test_sound_that_outlasts_the_picture_is_no_truncation(tmp_path):
    """Matroska declares one length for all streams."""
    path = write_stamped(tmp_path / "long.mkv", moving(30), [i / 25 for i in range(30)], np.zeros(3 * RATE, np.float32))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    settings = Settings(min_seconds=1.0)
    (tmp_path / "set" / "videos").mkdir(parents=True)
    whole, short = (process_video(Job.of(p), tmp_path / "set", settings) for p in (path, cut))
    assert [row.reason for row in whole] == ["no_face"]
    assert short[-1].reason == "truncated"


def test_what_is_no_video_says_why(tmp_path, speech_file):
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\n{speech_file}\n")
    cases = {
        playlist: Reason.UNDECODABLE,
        tmp_path / "missing.mp4": Reason.UNDECODABLE,
        Path(speech_file): Reason.NO_VIDEO,
    }
    for path, reason in cases.items():
        with pytest.raises(UnusableVideo) as caught, open_video(path):
            pass
        assert caught.value.reason is reason
    assert len(sound_between(speech_file, 0, 0.5)) == RATE // 2


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_is_tone_mapped_as_in_driving_videos(tmp_path, transfer):
    colours = np.linspace(0, 255, 96, dtype=np.uint8)[None, :, None] * np.ones((64, 1, 3), np.uint8)
    colours[:16, :, 1:], colours[16:32, :, ::2] = 40, 60  # reds, greens and greys
    write(tmp_path / "plain.mp4", [colours] * 4, None)
    to_hdr = "scale=out_color_matrix=bt709,zscale=tin=bt709:pin=bt709:min=bt709:rin=limited:p=bt709:t=linear:npl=203"
    to_hdr += f",format=gbrpf32le,zscale=p=bt2020,zscale=t={transfer}:m=bt2020nc:r=limited:npl=203,format=yuv420p10le"
    tags = f"log-level=none:crf=10:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:range=limited"
    path, make = tmp_path / "hdr.mp4", ["-v", "error", "-i", str(tmp_path / "plain.mp4"), "-vf", to_hdr]
    make += ["-c:v", "libx265", "-x265-params", tags, "-color_trc", transfer, "-color_primaries", "bt2020", str(path)]
    subprocess.run([ffmpeg_binary(), *make], check=True)
    with open_video(path) as video:
        found = to_rgb(next(iter(video.frames())).frame).astype(float)
    expected = next(stream_frames(path)).astype(float)  # by ffmpeg's filters
    assert found.shape == expected.shape and np.abs(found - expected).mean() < 12
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99
