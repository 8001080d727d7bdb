from dataclasses import replace

import numpy as np
import pytest

from concordant.benchmarks.catalogue import DATASETS
from concordant.data.formats.ucf101 import DEFAULT, read_classes, read_ucf101
from concordant.data.store import Store
from concordant.data.writing import write_store
from concordant.errors import DataError, UsageError

av = pytest.importorskip("av")
pytest.importorskip("datasets")
cv2 = pytest.importorskip("cv2")

OPTIONS = replace(DEFAULT, size=(32, 32), may_fail=0.5)
CLASSES = ("Archery", "Hammering", "HammerThrow", "HandstandPushups")  # in the order of the published file
TRAIN = (
    ("Archery/v_Archery_g08_c01", 1),
    ("HammerThrow/v_HammerThrow_g09_c02", 3),
    ("HandstandPushups/v_HandStandPushups_g10_c01", 4),
)
TEST = (("Archery/v_Archery_g01_c01", 1), ("Hammering/v_Hammering_g02_c03", 2))


def write_lists(folder, split=1):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classInd.txt").write_text("".join(f"{n} {name}\r\n" for n, name in enumerate(CLASSES, 1)), newline="")
    (folder / f"trainlist{split:02d}.txt").write_text("".join(f"{clip}.avi {n}\r\n" for clip, n in TRAIN), newline="")
    (folder / f"testlist{split:02d}.txt").write_text("".join(f"{clip}.avi\r\n" for clip, _ in TEST), newline="")


def encode_shift(path, *, frames=30, step=(2, 0), size=(96, 64)):
    """Encode a film in which a soft texture moves by whole pixels a frame."""
    noise = np.random.default_rng(0).uniform(0, 255, (256, 512)).astype(np.float32)
    texture = cv2.GaussianBlur(noise, (0, 0), 4)
    texture = (255 * (texture - texture.min()) / np.ptp(texture)).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *size, "yuv420p", 8_000_000
        for number in range(frames):
            left, top = 100 - number * step[0], 100 - number * step[1]
            cut = np.repeat(texture[top : top + size[1], left : left + size[0], None], 3, 2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(cut, format="rgb24")))
        container.mux(stream.encode(None))


def write_images(folder, value, count=6, name="frame_{:05d}.jpg"):
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        cv2.imwrite(str(folder / name.format(number)), np.full((24, 32, 3), value, np.uint8))


def write(found, folder):
    write_store(folder, found.card, found.instances, findings=found.findings)
    return Store(folder)


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "data"
    write_lists(folder / "ucfTrainTestlist")
    for clip, _ in (*TRAIN, *TEST):
        (folder / "UCF-101" / clip).parent.mkdir(parents=True, exist_ok=True)
        encode_shift(folder / f"UCF-101/{clip}.avi")
    return folder


def test_films_are_read_from_end_to_end(raw, tmp_path, film):
    broken = raw / f"UCF-101/{TRAIN[1][0]}.avi"
    broken.unlink()
    film(broken, seconds=1, picture=False)
    film(raw / f"UCF-101/{TEST[1][0]}.avi", seconds=0.04)  # one frame
    found = read_ucf101(raw, options=OPTIONS)
    store = write(found, tmp_path / "out")
    assert store.ids.tolist() == ["v_Archery_g08_c01", "v_HandStandPushups_g10_c01", "v_Archery_g01_c01"]
    assert store.splits.tolist() == ["train", "train", "test"]
    assert store.labels.tolist() == [0, 3, 0]
    assert store.groups.tolist() == ["Archery_g08", "HandstandPushups_g10", "Archery_g01"]
    assert store.card.label.classes == CLASSES
    assert (store.card.name, store.card.groups) == ("ucf101", "video group")
    rgb, flow = store[0].features["rgb"], store[0].features["flow"]
    assert (rgb.shape, rgb.dtype) == ((3, 3, 32, 32), np.float16)
    assert (flow.shape, flow.dtype) == ((2, 3, 32, 32), np.float16)
    reasons = found.findings.failures
    assert "has no video stream" in reasons["v_HammerThrow_g09_c02"]
    assert "has one frame only; optical flow needs two" in reasons["v_Hammering_g02_c03"]


@pytest.mark.parametrize("step", [(2, 0), (0, 1), (3, 2)])
def test_flow_is_the_motion_in_pixels_of_the_film(raw, tmp_path, step):
    for clip, _ in (*TRAIN, *TEST):
        encode_shift(raw / f"UCF-101/{clip}.avi", step=step)
    store = write(read_ucf101(raw, options=OPTIONS), tmp_path / "out")
    flow = store[0].features["flow"][:, :, 8:-8, 8:-8].astype(float)  # borders see what enters
    for axis, expected in enumerate(step):
        for time in range(3):
            assert np.median(flow[axis, time]) == pytest.approx(expected, abs=0.3)


def test_extracted_frames_and_flow_come_before_films(raw, tmp_path):
    for clip in ("v_Archery_g08_c01", "v_HandstandPushups_g10_c01"):  # spelt otherwise than in the list
        write_images(raw / "jpegs_256" / clip, 200)
        write_images(raw / "tvl1_flow/u" / clip, 255, name="frame{:06d}.jpg")
        write_images(raw / "tvl1_flow/v" / clip, 0, name="frame{:06d}.jpg")
    found = read_ucf101(raw, options=OPTIONS)
    rgb, flow = (found.card.modalities[name].preprocessing for name in ("rgb", "flow"))
    assert rgb["media"]["kinds"] == {".avi": 3, ".jpg": 12}
    assert flow["media"]["kinds"] == {".avi": 3, ".jpg": 24}
    assert (flow["of images"], flow["of films"]["winsize"]) == ({"bound": 20.0}, 15)
    store = write(found, tmp_path / "out")
    assert store.ids.tolist()[2] == "v_HandStandPushups_g10_c01"
    for row in (0, 2):
        pixels = store[row].features["rgb"].mean((1, 2, 3)) * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406]
        np.testing.assert_allclose(pixels * 255, 200, atol=2)
        motion = store[row].features["flow"]
        assert motion.shape == (2, 3, 32, 32)
        np.testing.assert_allclose(motion[0].astype(float), 20, atol=0.2)
        np.testing.assert_allclose(motion[1].astype(float), -20, atol=0.2)


def test_frames_alone_lack_their_flow(tmp_path):
    write_lists(tmp_path)
    for clip, _ in (*TRAIN, *TEST):
        write_images(tmp_path / "rgb" / clip.split("/")[1], 100)
        write_images(tmp_path / "u" / clip.split("/")[1], 100)
    with pytest.raises(DataError) as caught:
        read_ucf101(tmp_path, options=OPTIONS)
    assert "5 of 5 clips are not there" in str(caught.value)
    assert "v/<clip>/frame000001.jpg or <clip>.avi of 5 clips, such as v_Archery_g08_c01" in str(caught.value)
    assert "u/<clip>" not in str(caught.value)


def test_flow_images_that_do_not_pair_fail_their_clip(tmp_path):
    write_lists(tmp_path)
    for clip, _ in (*TRAIN, *TEST):
        name = clip.split("/")[1]
        write_images(tmp_path / "rgb" / name, 100)
        write_images(tmp_path / "u" / name, 100)
        write_images(tmp_path / "v" / name, 100, count=6 if clip != TEST[0][0] else 3)
    found = read_ucf101(tmp_path, options=OPTIONS)
    store = write(found, tmp_path / "out")
    assert len(store) == 4
    assert "must hold images of the same names" in found.findings.failures["v_Archery_g01_c01"]


def test_classes_count_as_in_the_file_and_the_alphabet_is_noted(raw):
    card = read_ucf101(raw, options=OPTIONS).card
    # "HammerThrow" comes before "Hammering" where capitals come first.
    assert "by the alphabet (capitals first) others come for: Hammering, HammerThrow" in card.notes[1]
    assert [source.file for source in card.sources] == ["trainlist01.txt", "testlist01.txt", "classInd.txt"]


def test_groups_in_both_lists_are_noted(raw):
    place = raw / "ucfTrainTestlist/testlist01.txt"
    place.write_text(place.read_text().replace("v_Archery_g01_c01", "v_Archery_g08_c02"))
    encode_shift(raw / "UCF-101/Archery/v_Archery_g08_c02.avi")
    assert "1 video groups are both in train and in test" in read_ucf101(raw, options=OPTIONS).card.notes[-1]


def test_another_split_reads_its_lists(raw):
    with pytest.raises(DataError, match=r"trainlist02\.txt, testlist02\.txt; expected"):
        read_ucf101(raw, options=OPTIONS, split=2)
    write_lists(raw / "ucfTrainTestlist", 2)
    assert read_ucf101(raw, options=OPTIONS, split=2).card.notes[0] == "split 2 of 3"
    with pytest.raises(UsageError, match="split must be 1, 2 or 3; found 4"):
        read_ucf101(raw, options=OPTIONS, split=4)


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("trainlist01.txt", "Archery/v_Archery_g08_c02.avi", "line 2 must be Class/v_Class_g01_c01.avi and the number"),
        ("trainlist01.txt", "v_Archery_g08_c02.avi 1", "line 2 must be Class/v_Class_g01_c01"),
        ("trainlist01.txt", "Archery/v_Archery_c02.avi 1", "line 2 must be Class/v_Class_g01_c01"),
        ("trainlist01.txt", "Archery/v_Archery_g08_c02.avi 2", r"line 2: Archery is class 1 of classInd\.txt; found 2"),
        ("trainlist01.txt", "Diving/v_Diving_g08_c02.avi 2", r"line 2: Diving must be a class of classInd\.txt"),
        ("testlist01.txt", "Archery/v_Archery_g08_c02.avi 1", r"line 2 must be Class/v_Class_g01_c01\.avi; found"),
        ("testlist01.txt", "Archery/v_Archery_g01_c01.avi", r"line 2: .* listed already, in testlist01\.txt, line 1"),
        ("classInd.txt", "3 Hammering", "line 2 must be '2 Class', a new class; found '3 Hammering'"),
        ("classInd.txt", "2 Archery", "line 2 must be '2 Class', a new class; found '2 Archery'"),
        ("classInd.txt", "Hammering", "line 2 must be '2 Class', a new class"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, file, line, expected):
    write_lists(tmp_path)
    first, _, *rest = (tmp_path / file).read_text().splitlines()
    (tmp_path / file).write_text("\n".join([first, line, *rest]))
    with pytest.raises(DataError, match=expected) as caught:
        read_ucf101(tmp_path, options=OPTIONS)
    assert file in str(caught.value)


def test_published_counts_are_those_of_the_whole(tmp_path):
    assert sum(DATASETS["ucf101"].published.values()) == 13_320
    (tmp_path / "classInd.txt").write_text("1 Archery\n2 Biking\n")
    assert read_classes(tmp_path / "classInd.txt") == ("Archery", "Biking")
