import re

import numpy as np
import pytest

pytest.importorskip("soundfile")

import soundfile

from concordant.benchmarks.emotions import RAVDESS_FILE, load_ravdess
from concordant.data.archives import write_archive
from concordant.data.formats.ravdess import UNITS, read_ravdess
from concordant.errors import DataError


def table(path, values):
    """Write a table of OpenFace: spaces after the commas, and columns that are not read."""
    lines = ["frame, " + ", ".join(reversed(UNITS)), *(f"{k}, " + ", ".join(map(str, row)) for k, row in values)]
    path.write_text("\n".join(lines) + "\n")


def publish(folder):
    for actor in range(1, 6):
        for emotion in (1, 8):
            stem = f"-01-0{emotion}-01-02-01-0{actor}"
            table(folder / f"01{stem}.csv", [(k, np.full(len(UNITS), actor + k / 4)) for k in range(4)])
            seconds, tone = 1 + actor, np.sin(np.arange((1 + actor) * 48_000) / 10)
            if (actor, emotion) != (2, 8):
                (folder / "Actor").mkdir(exist_ok=True)
                soundfile.write(folder / "Actor" / f"03{stem}.wav", 0.1 * tone[: seconds * 48_000], 48_000)
    (folder / "01-02-01-01-01-01-01.csv").write_text("a song, which is not read")


def test_sounds_and_tables_become_an_archive_of_the_benchmark(tmp_path):
    publish(tmp_path)
    found = read_ravdess(tmp_path)
    assert found["name"].tolist()[:2] == ["01-01-01-01-02-01-01", "01-01-01-01-02-01-02"]
    assert (found["emotion"].tolist(), found["actor"].tolist()) == ([0] * 5 + [7] * 5, [1, 2, 3, 4, 5] * 2)
    assert found["has_audio"].tolist() == [True] * 6 + [False] + [True] * 3
    np.testing.assert_allclose(found["action_units"][1], 2 + 3 / 8)
    assert found["duration_s"][[0, 4]].tolist() == [2, 6]
    valid = (found["logmel"] != 0).any(2).sum(1)
    assert valid.tolist() == [201, 301, 400, 400, 400, 201, 0, 400, 400, 400]
    assert found["audio_stats"].shape == (10, 256)
    assert np.isnan(found["audio_stats"][6]).all()
    write_archive(tmp_path / RAVDESS_FILE, found)
    recordings = load_ravdess(tmp_path)
    assert recordings.fold.tolist() == [4, 0, 1, 4, 0] * 2


@pytest.mark.data
def test_names_folds_and_units_are_those_of_the_archive(data_folder, tmp_path):
    with np.load(data_folder / "ravdess.npz") as archive:
        assert archive["action_unit_names"].tolist() == list(UNITS)
        whole = archive["name"].tolist()
        assert whole == sorted(whole)
        heard = ["01-01-01-01-01-01-01", "01-01-05-02-02-02-12"]  # those whose sounds are in raw/ravdess
        rows = sorted({*map(whole.index, heard), *range(0, len(whole), 31)})
        for row in rows:
            table(tmp_path / f"{whole[row]}.csv", [(1, archive["action_units"][row][::-1])])
        for path in (data_folder / "raw" / "ravdess").iterdir():
            (tmp_path / path.name).symlink_to(path)
        found = read_ravdess(tmp_path)
        np.testing.assert_array_equal(found["emotion_names"], archive["emotion_names"])
        for key in ("name", "emotion", "intensity", "statement", "repetition", "actor", "fold", "action_units"):
            np.testing.assert_array_equal(found[key], archive[key][rows])
        assert found["name"][found["has_audio"]].tolist() == heard
        known = [whole.index(name) for name in heard]
        np.testing.assert_allclose(found["duration_s"][found["has_audio"]], archive["duration_s"][known], atol=1e-4)


def test_tables_that_lack_or_cannot_be_used_are_named(tmp_path):
    with pytest.raises(DataError, match=r"has no table of OpenFace such as 01-01-01-01-01-01-01\.csv"):
        read_ravdess(tmp_path)
    publish(tmp_path)
    (tmp_path / "01-01-01-01-02-01-03.csv").unlink()
    said = "has no table of OpenFace of 1 recordings, such as 01-01-01-01-02-01-03.csv; the tables are published apart"
    with pytest.raises(DataError, match=re.escape(said)):
        read_ravdess(tmp_path)
    (tmp_path / "01-01-01-01-02-01-03.csv").write_text("frame, AU01_r\n1, 2\n")
    with pytest.raises(DataError, match=r"has no column AU02_r, .*; is it a table of OpenFace\?"):
        read_ravdess(tmp_path)
    table(tmp_path / "01-01-01-01-02-01-03.csv", [(1, np.full(len(UNITS), np.nan))])
    with pytest.raises(DataError, match="must have finite action units in every frame; found 1 frames"):
        read_ravdess(tmp_path)
