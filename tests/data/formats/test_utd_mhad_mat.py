import re

import numpy as np
import pytest

pytest.importorskip("datasets")

from scipy.io import savemat

from concordant.data.formats.utd_mhad_mat import read_utd_mhad, read_utd_mhad_archive
from concordant.data.store import Store
from concordant.data.writing import write_store
from concordant.errors import DataError, UsageError


def stored(folder, to, **options):
    reading = read_utd_mhad(folder, **options)
    write_store(to, reading.card, reading.instances, findings=reading.findings)
    return Store(to)


def make(folder):
    draws = np.random.default_rng(0)
    arrays = {}
    for action, subject, steps in ((1, 1, 5), (2, 2, 7), (27, 3, 6)):
        stem = f"a{action}_s{subject}_t1"
        values = {
            "skeleton": ("d_skel", draws.standard_normal((20, 3, steps))),
            "inertial": ("d_iner", draws.standard_normal((3 * steps, 6))),
            "depth": ("d_depth", draws.integers(0, 4000, (240, 320, steps)).astype(np.uint16)),
        }
        for sensor, (key, array) in values.items():
            place = folder / sensor.title()
            place.mkdir(exist_ok=True)
            savemat(place / f"{stem}_{sensor}.mat", {key: array})
            arrays[stem, sensor] = array
    return arrays


def test_sensors_come_at_their_own_length(tmp_path):
    arrays = make(tmp_path)
    store = stored(tmp_path, tmp_path / "store", depth_frames=3)
    assert [(one.id, one.split, one.label, one.group) for one in store] == [
        ("a1_s1_t1", "train", 0, "subject 1"),
        ("a2_s2_t1", "test", 1, "subject 2"),
        ("a27_s3_t1", "train", 26, "subject 3"),
    ]
    for one in store:
        skeleton, inertial, depth = (arrays[one.id, name] for name in ("skeleton", "inertial", "depth"))
        np.testing.assert_allclose(one.features["skeleton"][2, 3 * 7 + 1], skeleton[7, 1, 2], rtol=1e-6)
        np.testing.assert_array_equal(one.features["inertial"], inertial.astype(np.float32))
        assert one.features["depth"].shape == (1, 3, 60, 80)
        block = depth[4 * 10 : 4 * 11, 4 * 20 : 4 * 21, -1].mean()
        assert one.features["depth"][0, -1, 10, 20] == pytest.approx(block)


def test_a_broken_sensor_is_absent_and_listed(tmp_path):
    make(tmp_path)
    (tmp_path / "Inertial" / "a2_s2_t1_inertial.mat").write_bytes(b"MATLAB 5.0" + bytes(50))
    (tmp_path / "Depth" / "a1_s1_t1_depth.mat").unlink()
    savemat(tmp_path / "Skeleton" / "a27_s3_t1_skeleton.mat", {"d_skel": np.zeros((19, 3, 4))})
    store = stored(tmp_path, tmp_path / "store")
    assert store[1].features["inertial"] is None
    assert store[0].features["depth"] is None
    assert store[2].features["skeleton"] is None
    assert "1 recordings have no inertial" in store.card.notes
    text = (tmp_path / "store" / "failures.json").read_text()
    assert "a2_s2_t1_inertial.mat cannot be read as a MATLAB file" in text
    assert "d_skel must be numbers (20, 3, T); found float64 (19, 3, 4)" in text


def test_folders_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no file such as a1_s1_t1_skeleton\.mat, nor has a folder in it"):
        read_utd_mhad(tmp_path)
    make(tmp_path)
    (tmp_path / "copy").mkdir()
    twin = tmp_path / "copy" / "a1_s1_t1_depth.mat"
    twin.write_bytes(b"x")
    with pytest.raises(DataError, match="are of the same recording; leave one of them out"):
        read_utd_mhad(tmp_path)
    twin.rename(tmp_path / "copy" / "a28_s1_t1_depth.mat")
    with pytest.raises(DataError, match="actions count from 1 to 27; found 28"):
        read_utd_mhad(tmp_path)
    with pytest.raises(UsageError, match="depth_frames must be 1 or more; found 0"):
        read_utd_mhad(tmp_path, depth_frames=0)


@pytest.mark.data
def test_real_files_agree_with_the_archive_that_was_made_of_them(data_folder, tmp_path):
    store = stored(data_folder / "raw" / "utd_mhad", tmp_path / "store")
    with np.load(data_folder / "utd_mhad.npz") as archive:
        rows = {name: row for row, name in enumerate(archive["id"].tolist())}
        assert [one.id for one in store] == ["a1_s1_t1", "a9_s3_t2"]
        for one in store:
            row = rows[one.id]
            assert one.label == archive["action"][row]
            skeleton, inertial = one.features["skeleton"], one.features["inertial"]
            assert len(skeleton) == archive["skeleton_frames"][row]
            assert len(inertial) == archive["inertial_samples"][row]
            # The archive holds them resampled to one length, linearly.
            for values, wanted in (
                (skeleton, archive["skeleton"][row].reshape(64, 60)),
                (inertial, archive["inertial"][row]),
            ):
                times = np.linspace(0, len(values) - 1, len(wanted))
                found = np.stack([np.interp(times, np.arange(len(values)), column) for column in values.T], 1)
                np.testing.assert_allclose(found, wanted, atol=1e-3)
            depth = one.features["depth"][0, [0, -1]]
            assert np.abs(depth - archive["depth"][row][[0, -1]]).max() < 1  # whole millimetres there
    assert re.fullmatch("[0-9a-f]{64}", store.card.sources[0].sha256)


@pytest.mark.data
def test_real_files_give_the_rows_of_the_archive(data_folder):
    found = read_utd_mhad_archive(data_folder / "raw" / "utd_mhad")
    with np.load(data_folder / "utd_mhad.npz") as archive:
        ids = archive["id"].tolist()
        assert ids == sorted(ids, key=lambda name: [int(part[1:]) for part in name.split("_")])
        rows = [ids.index(name) for name in found["id"].tolist()]
        assert set(found) == set(archive.files)
        for key in archive.files:
            np.testing.assert_array_equal(found[key], archive[key][rows])


def test_the_archive_needs_every_sensor(tmp_path):
    make(tmp_path)
    assert read_utd_mhad_archive(tmp_path)["depth"].shape == (3, 16, 60, 80)
    (tmp_path / "Inertial" / "a2_s2_t1_inertial.mat").unlink()
    with pytest.raises(
        DataError, match=r"has no a2_s2_t1_inertial\.mat; every recording needs skeleton, inertial, depth"
    ):
        read_utd_mhad_archive(tmp_path)
