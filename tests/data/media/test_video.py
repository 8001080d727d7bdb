import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("cv2")

import cv2

from concordant.data.media.video import imagenet, load_images, pick, read_frames
from concordant.errors import DataError, UsageError


def numbers(frames):
    """Return which frames these are, by their brightness."""
    return np.round((frames.mean((1, 2, 3)) - 16) / 4).astype(int).tolist()


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".flv"])
def test_every_frame_of_a_film_comes_in_order(film, tmp_path, suffix):
    frames = read_frames(film(tmp_path / f"x{suffix}", seconds=1.0))
    assert frames.shape == (25, 48, 64, 3)
    assert frames.dtype == np.uint8
    assert numbers(frames) == list(range(25))


@pytest.mark.parametrize(
    ("fps", "span", "wanted"),
    [
        (1, None, [0, 25]),
        (5, None, [0, 5, 10, 15, 20, 25, 30, 35, 40, 45]),
        (5, (0.4, 1.2), [10, 15, 20, 25]),
        (50, (0.0, 0.1), [0, 0, 1, 1, 2]),  # more often than there are frames: each is shown twice
        (2, (1.9, 9.0), [47]),
        (None, (0.2, 0.4), [5, 6, 7, 8, 9]),
    ],
)
def test_a_frame_is_the_one_that_is_shown_at_its_time(film, tmp_path, fps, span, wanted):
    assert numbers(read_frames(film(tmp_path / "x.mp4"), fps=fps, span=span)) == wanted


def test_frames_are_scaled(film, tmp_path):
    assert read_frames(film(tmp_path / "x.mp4"), fps=1, size=(20, 30)).shape == (2, 20, 30, 3)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("x.mp4", b"", r"x\.mp4 is empty"), ("x.mp4", b"nothing" * 99, r"x\.mp4 cannot be decoded")],
)
def test_files_that_are_no_film_are_refused(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_frames(tmp_path / name)


def test_films_that_cannot_be_used_are_refused(film, tmp_path):
    with pytest.raises(DataError, match=r"gone\.mp4 is not there"):
        read_frames(tmp_path / "gone.mp4")
    with pytest.raises(DataError, match=r"x\.mp4 has no video stream"):
        read_frames(film(tmp_path / "x.mp4", picture=False, seconds=0.5))
    with pytest.raises(DataError, match=r"y\.mp4: no frame could be decoded from 5 to 6 seconds"):
        read_frames(film(tmp_path / "y.mp4"), fps=1, span=(5, 6))
    whole = (tmp_path / "y.mp4").read_bytes()
    (tmp_path / "y.mp4").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(DataError, match=r"y\.mp4 cannot be decoded"):
        read_frames(tmp_path / "y.mp4")
    with pytest.raises(UsageError, match=r"fps must be above 0 and a span rise from 0 or more; found fps 0, span None"):
        read_frames(tmp_path / "y.mp4", fps=0)


@pytest.mark.parametrize("suffix", [".flv", ".avi"])
def test_a_film_that_was_cut_off_in_the_middle_is_noticed(film, tmp_path, suffix):
    path = film(tmp_path / f"x{suffix}", seconds=4.0)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        DataError, match=r"is truncated: it announces 4\.\d seconds of pictures, which end after [12]\."
    ):
        read_frames(path, fps=1)
    assert len(read_frames(path, fps=1, span=(0, 1))) == 1  # what was asked for is there


def test_images_are_loaded_as_red_green_blue(tmp_path):
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 0] = 200  # red
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    found = load_images([tmp_path / "a.png"] * 2)
    assert found.shape == (2, 4, 6, 3)
    np.testing.assert_array_equal(found[0], image)
    assert load_images([tmp_path / "a.png"], size=(2, 2), grey=True).shape == (1, 2, 2)


def test_images_that_cannot_be_used_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 6, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((5, 6, 3), np.uint8))
    (tmp_path / "c.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"b\.png is \(5, 6\) where .*a\.png is \(4, 6\); name a size"):
        load_images([tmp_path / "a.png", tmp_path / "b.png"])
    with pytest.raises(DataError, match=r"c\.jpg is no image that can be read"):
        load_images([tmp_path / "c.jpg"])
    with pytest.raises(DataError, match=r"d\.jpg cannot be read \(No such file or directory\)"):
        load_images([tmp_path / "d.jpg"])
    with pytest.raises(UsageError, match="load_images needs one file or more"):
        load_images([])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_images_that_were_cut_off_are_refused(tmp_path, suffix, share):
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    assert load_images([path]).shape == (1, 48, 64, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[: round(share * len(whole))])
    with pytest.raises(DataError, match="is no image that can be read, or is truncated"):
        load_images([path])


def test_places_are_the_middles_of_equal_stretches():
    assert pick(1, 1).tolist() == [0]
    assert pick(10, 2).tolist() == [2, 7]
    assert pick(3, 5).tolist() == [0, 0, 1, 2, 2]
    with pytest.raises(UsageError, match="count and wanted must be 1 or more; found 0 and 3"):
        pick(0, 3)


def test_colours_are_scaled_as_imagenet_s():
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    found = imagenet(frames)
    assert found.shape == (3, 2, 3, 4)
    wanted = (frames[1, 2, 3, 2] / 255 - 0.406) / 0.225
    assert found[2, 1, 2, 3] == pytest.approx(wanted, abs=1e-5)
