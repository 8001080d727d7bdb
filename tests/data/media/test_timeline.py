"""Films whose streams begin at different times, are cut, joined, turned or truncated; each is written by PyAV."""

import struct
from fractions import Fraction

import numpy as np
import pytest

from concordant.data.media.audio import read_audio
from concordant.data.media.video import read_frames
from concordant.errors import DataError

av = pytest.importorskip("av")
pytest.importorskip("cv2")

RATE = 16000


def numbers(frames):
    return np.round((frames.mean((1, 2, 3)) - 16) / 4).astype(int).tolist()


def first_sound(path):
    wave, rate = read_audio(path)
    return np.flatnonzero(np.abs(wave) > 0.05)[0] / rate


def remux(source, target, *, shift=None, options=None, keep=None, streams=None):
    """Copy the packets of a film: their times moved by seconds per kind, those for which `keep` is false left out."""
    with av.open(str(source)) as read, av.open(str(target), "w", options=options or {}) as write:
        copies = {one.index: write.add_stream_from_template(one) for one in read.streams}
        for packet in read.demux():
            if packet.dts is None or (keep is not None and not keep(packet)):
                continue
            for name, seconds in (shift or {}).items():
                if packet.stream.type == name:
                    moved = round(seconds / packet.time_base)
                    packet.pts, packet.dts = packet.pts + moved, packet.dts + moved
            packet.stream = copies[packet.stream.index]
            write.mux(packet)
    return target


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_sound_that_begins_late_is_preceded_by_silence(film, tmp_path, suffix):
    path = remux(film(tmp_path / "x.mp4"), tmp_path / f"late{suffix}", shift={"audio": 1.0})
    assert first_sound(path) == pytest.approx(1.0, abs=0.07)  # the codec begins with 64 ms of padding
    assert numbers(read_frames(path, fps=5))[:3] == [0, 5, 10]
    wave, rate = read_audio(path, span=(0.5, 1.5))
    assert len(wave) == rate
    assert np.flatnonzero(np.abs(wave) > 0.05)[0] / rate == pytest.approx(0.5, abs=0.07)


def test_pictures_that_begin_late_keep_their_distance_to_the_sound(film, tmp_path):
    path = remux(film(tmp_path / "x.mp4"), tmp_path / "late.mkv", shift={"video": 1.0})
    assert first_sound(path) < 0.1
    # Until the first picture there is nothing to show but that one.
    assert numbers(read_frames(path, fps=5, span=(0.4, 1.6))) == [0, 0, 0, 0, 5, 10]


def test_a_gap_in_the_sound_is_silence(film, tmp_path):
    path = film(tmp_path / "x.mp4")
    keep = lambda packet: packet.stream.type == "video" or not 0.5 < packet.pts * packet.time_base < 1.5  # noqa: E731
    wave, rate = read_audio(remux(path, tmp_path / "gap.mkv", keep=keep))
    assert len(wave) / rate == pytest.approx(2, abs=0.2)
    assert np.abs(wave[round(0.7 * rate) : round(1.4 * rate)]).max() < 0.01
    assert np.abs(wave[round(1.6 * rate) : round(1.9 * rate)]).max() > 0.3


def test_a_gap_of_days_is_refused_before_it_is_filled(film, tmp_path, monkeypatch):
    monkeypatch.setenv("CONCORDANT_LIMIT", "4MiB")
    path, count = film(tmp_path / "x.mp4", seconds=1.0), 0

    def late(packet):
        nonlocal count
        count += packet.stream.type != "video"
        packet.pts, packet.dts = (
            one + (count > 10) * round(4e5 / packet.time_base) for one in (packet.pts, packet.dts)
        )
        return True

    path = remux(path, tmp_path / "gap.mkv", keep=late)
    for read in (read_audio, lambda one: read_frames(one, fps=100)):
        with pytest.raises(DataError, match=r"gap\.mkv with its \w+.* announces .* CONCORDANT_LIMIT allows"):
            read(path)


def test_what_an_edit_list_hides_is_neither_shown_nor_missed(film, tmp_path):
    """Like `ffmpeg -ss 2 -c copy`: the packets from the last key picture on are there, and hidden until the cut."""
    whole = film(tmp_path / "x.mp4", seconds=4.0)
    path = remux(
        whole,
        tmp_path / "cut.mp4",
        shift={"video": -2.0, "audio": -2.0},
        options={"avoid_negative_ts": "disabled", "use_editlist": "1"},
    )
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.frames / stream.average_rate > 3.5  # counts what is hidden
        assert float(stream.duration * stream.time_base) < 2.5
    assert numbers(read_frames(path, fps=1)) == [50, 75 % 55]


def test_films_that_were_joined_byte_by_byte_follow_each_other(film, tmp_path):
    rates = (22050, 44100)
    parts = [remux(film(tmp_path / f"{rate}.mp4", rate=rate, seconds=1.0), tmp_path / f"{rate}.ts") for rate in rates]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    wave, rate = read_audio(path)
    assert rate == 22050
    assert len(wave) / rate == pytest.approx(2.1, abs=0.15)
    second = wave[round(1.4 * rate) : round(1.9 * rate)]
    spectrum = np.abs(np.fft.rfft(second * np.hanning(len(second))))
    assert spectrum.argmax() * rate / len(second) == pytest.approx(440, abs=5)  # the tone, not half or twice of it


def test_pictures_that_change_their_size_need_one(tmp_path):
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number, width in enumerate((64, 64, 96)):
            coder = av.CodecContext.create("mjpeg", "w")
            coder.width, coder.height, coder.pix_fmt, coder.time_base = width, 48, "yuvj420p", Fraction(1, 25)
            frame = av.VideoFrame.from_ndarray(np.zeros((48, width, 3), np.uint8), format="rgb24")
            for packet in (*coder.encode(frame.reformat(format="yuvj420p")), *coder.encode(None)):
                packet.pts = packet.dts = number
                packet.time_base, packet.stream = Fraction(1, 25), stream
                container.mux(packet)
    with pytest.raises(DataError, match=r"has pictures of several sizes, \(48, 64\) and \(48, 96\); name a size"):
        read_frames(path)
    assert read_frames(path, size=(24, 32)).shape == (3, 24, 32, 3)


#: How a camera was held: the matrix of the film (a, b, c, d), and what turns the stored picture upright.
TURNS = {
    "as stored": ((1, 0, 0, 1), lambda x: x),
    "quarter right": ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),
    "half": ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
    "quarter left": ((0, -1, 1, 0), lambda x: np.rot90(x, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda x: x[::-1]),
}


@pytest.mark.parametrize("held", TURNS)
def test_pictures_are_upright(tmp_path, held):
    turn, upright = TURNS[held]
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:24, :32], stored[:24, 32:], stored[24:, :32] = 200, 120, 60  # four corners of their own
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 4_000_000
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(stored, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    content = path.read_bytes()
    plain = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    place = content.index(plain, content.index(b"tkhd"))  # of the track: ISO/IEC 14496-12, 8.3.2
    a, b, c, d = (value << 16 for value in turn)
    content = content[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + content[place + 36 :]
    path.write_bytes(content)
    wanted = upright(stored)
    found = read_frames(path)[2]
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).mean() < 6
    height, width = wanted.shape[0] // 2, wanted.shape[1] // 2
    small = read_frames(path, size=(height, width))[2]
    assert small.shape == (height, width, 3)
    assert np.abs(small.astype(int) - wanted[::2, ::2]).mean() < 12


def test_the_stream_that_is_flagged_default_is_taken(tmp_path):
    from av.stream import Disposition

    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in range(2)]
        streams[0].disposition, streams[1].disposition = Disposition(0), Disposition.default
        for stream, level in zip(streams, (0.0, 0.5), strict=True):
            samples = np.full((1, RATE), round(level * 32767), np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    assert np.abs(read_audio(path)[0]).max() == pytest.approx(0.5, abs=0.01)


def test_a_cover_picture_is_no_film(tmp_path):
    from av.stream import Disposition

    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        picture.pts, picture.time_base = 0, Fraction(1, 1)
        container.mux([*cover.encode(picture), *cover.encode(None)])
    with pytest.raises(DataError, match="has no video stream"):
        read_frames(path)
    assert len(read_audio(path)[0])


@pytest.mark.parametrize("fps", [2, None])
def test_a_span_behind_the_cut_of_a_truncated_film_is_refused(film, tmp_path, fps):
    path = film(tmp_path / "x.avi", seconds=6.0)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert len(read_frames(path, fps=2, span=(0, 1))) == 2
    for span in ((1.5, 5.0), (4.0, 5.0)):
        with pytest.raises(DataError, match=r"is truncated: it announces 6\.\d seconds of pictures, which end after"):
            read_frames(path, fps=fps, span=span)
    with pytest.raises(DataError, match=r"is truncated: it announces 6\.\d seconds of sound, which end after"):
        read_audio(path)
