"""`concordant data` as a user sees it: published files and own ones become datasets that can be checked and run."""

import contextlib
import io
import json
import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytestmark = pytest.mark.process

pytest.importorskip("datasets")
pytest.importorskip("h5py")

SHORT = ("--calibrators", "none,context", "--seeds", "1", "--steps", "4", "--jobs", "1", "--json", "-", "--no-alone")


def concordant(*arguments, cwd, **environment):
    """Run a command in this process, which has imported what it needs, in a folder of its own."""
    from concordant.benchmarks.catalogue import _prepare
    from concordant.cli.main import main

    _prepare.cache_clear()  # it knows data by their path, here relative to a folder that changes
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CONCORDANT_")}
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        for name in os.environ.keys() - inherited.keys():
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["concordant", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    return SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=err.getvalue())


def good(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def mmsa(path):
    draws = np.random.default_rng(0)

    def split(count, first):
        text = draws.integers(3, 12, count)
        bert = np.zeros((count, 3, 12), np.float32)
        bert[:, 1] = np.arange(12) < text[:, None]
        audio = draws.standard_normal((count, 15, 5))
        audio[0, 0, 0] = -np.inf
        return {
            "text": draws.standard_normal((count, 12, 768)).astype(np.float32),
            "text_bert": bert,
            "audio": audio,
            "vision": draws.standard_normal((count, 18, 20)).astype(np.float32),
            "audio_lengths": draws.integers(1, 16, count).tolist(),
            "vision_lengths": draws.integers(1, 19, count).tolist(),
            "id": np.array([f"v{first + k // 3}$_${k}" for k in range(count)], object),
            "regression_labels": draws.uniform(-3, 3, count).astype(np.float32),
        }

    plain = pickle.dumps({"train": split(24, 0), "valid": split(9, 10), "test": split(12, 20)}, protocol=2)
    path.write_bytes(plain.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def ave(folder):
    import h5py

    draws = np.random.default_rng(0)
    folder.mkdir()
    rows = 30
    lines = [f"class {k % 3}&video{k}&good&{k % 3}&{6 + k % 4}" for k in range(rows)]
    (folder / "Annotations.txt").write_text("\n".join(lines) + "\n")
    arrays = {
        "audio_feature": draws.standard_normal((rows, 10, 128)),
        "visual_feature": draws.standard_normal((rows, 10, 4, 4, 8)),
    }
    for name, values in arrays.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["avadataset"] = values
    for name, part in (("train", range(15)), ("val", range(15, 20)), ("test", range(20, 30))):
        with h5py.File(folder / f"{name}_order.h5", "w") as file:
            file["order"] = np.array(part)


def test_a_sentiment_pickle_is_prepared_checked_described_and_run(tmp_path):
    mmsa(tmp_path / "unaligned_50.pkl")
    text = good(concordant("data", "prepare", "cmu-mosi", "--source", ".", "--out", "mosi", cwd=tmp_path))
    assert "cmu-mosi: 45 instances of text, audio, vision in mosi" in text
    assert "repaired: audio: 3 of" in text
    assert "note: text looks like BERT features (bert-base), by its 768 features" in text
    checked = concordant("data", "check", "mosi", "--json", "check.json", cwd=tmp_path)
    assert "warning: splits: train has 24 instances where 1,284 are published" in good(checked)
    assert json.loads((tmp_path / "check.json").read_text())["failed"] is False
    assert good(concordant("data", "describe", "mosi", cwd=tmp_path)).startswith("# cmu-mosi\n")
    done = concordant("run", "mosi", "--fusion", "lf-dnn", *SHORT, cwd=tmp_path)
    results = json.loads(good(done))
    assert "Sentiment, clean" in done.stderr
    clean = results["runs"][0]["clean"]
    assert clean["accuracy"] == clean["has0_accuracy"]
    assert set(clean) >= {"mae", "correlation", "accuracy7", "non0_f1_weighted"}
    short = ("--calibrators", "context", "--seeds", "1", "--steps", "2", "--jobs", "1", "--no-alone")
    # The same, read from disk as it is needed.
    asked = ("--data", "mosi", "--fusion", "sum,mult", *short)
    good(concordant("run", "cmu-mosi", *asked, cwd=tmp_path, CONCORDANT_MEMORY="1"))


def test_ave_features_are_run_second_by_second(tmp_path):
    ave(tmp_path / "files")
    good(concordant("data", "prepare", "ave", "--source", "files", "--out", "ave", cwd=tmp_path))
    good(concordant("data", "check", "ave", cwd=tmp_path))
    results = json.loads(good(concordant("run", "ave", "--data", "ave", *SHORT, cwd=tmp_path)))
    assert results["config"]["fusion"] == "concat"
    good(concordant("run", "ave", "--data", "ave", "--fusion", "lf-lstm", *SHORT, cwd=tmp_path))
    good(concordant("data", "prepare", "ave-clips", "--source", "files", "--out", "clips", cwd=tmp_path))
    good(concordant("run", "clips", "--fusion", "sum", *SHORT, cwd=tmp_path))


def test_a_table_of_one_s_own(tmp_path):
    lines = ["label,a.x,a.y,b.z", *(f"{k % 2},{k % 2 + k / 100},{k},{-k}" for k in range(40))]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    text = good(concordant("data", "from-csv", "mine.csv", "--out", "mine", "--name", "my [b] [data]", cwd=tmp_path))
    assert "my [b] [data]: 40 instances of a, b in mine" in text
    results = json.loads(good(concordant("run", "mine", "--out", "first", *SHORT, cwd=tmp_path)))
    assert results["benchmark"] == results["config"]["dataset"] == "my [b] [data]"
    assert results["config"]["protocol"] == "folds"  # nothing was given
    good(concordant("run", "mine", "--modalities", "b,a", "--out", "other", *SHORT, cwd=tmp_path))
    done = concordant("run", "mine", "--protocol", "given", "--out", "third", *SHORT, cwd=tmp_path)
    assert (done.returncode, "my [b] [data] has no given splits; leave the protocol out" in done.stderr) == (2, True)


def test_modalities_in_files_of_their_own_and_what_run_would_refuse(tmp_path):
    rows = range(40)
    (tmp_path / "y.csv").write_text("label,fold\n" + "".join(f"{k % 2}.0,{k % 4}\n" for k in rows))
    (tmp_path / "a.csv").write_text("".join(f"{k % 2 + k / 100};{k}\n" for k in rows))
    (tmp_path / "b.csv").write_text("level\n" + "".join(f"{-k}\n" for k in rows))
    asked = ("data", "from-csv", "y.csv", "--modality", "a=a.csv", "--modality", "b=b.csv", "--out", "mine")
    text = good(concordant(*asked, cwd=tmp_path))
    assert "y: 40 instances of b, a in mine" in text or "y: 40 instances of a, b in mine" in text
    assert "task: classification: one of 2 classes (0, 1) per instance" in text
    assert "note: the data have 4 folds: seed s tests on the one at place s modulo 4" in text
    assert "task: classification: one of 2 classes (0, 1) per instance" in good(
        concordant("data", "check", "mine", cwd=tmp_path)
    )
    good(concordant("run", "mine", *SHORT, cwd=tmp_path))
    done = concordant(*asked[:4], "a.csv", "--out", "other", cwd=tmp_path)
    assert (done.returncode, "--modality must be NAME=FILE, each name once; found 'a.csv'" in done.stderr) == (2, True)
    (tmp_path / "few.csv").write_text("label,a.0\n" + "0,1\n1,2\n" * 3)
    text = good(concordant("data", "from-csv", "few.csv", "--out", "few", cwd=tmp_path))
    assert "warning: concordant run will refuse it: few: 5 folds need 10 instances; found 6" in text
    done = concordant("data", "check", "few", cwd=tmp_path)
    assert (done.returncode, "error: splits: few: 5 folds need 10 instances; found 6" in done.stdout) == (1, True)


def test_labels_on_one_side_of_zero_and_data_without_labels_are_used_as_far_as_they_go(tmp_path):
    rows = [f"i{k},{1 + k / 50},{k % 3 + k / 9},{-k}" for k in range(40)]
    (tmp_path / "mine.csv").write_text("\n".join(["id,label,a.x,b.z", *rows]))
    (tmp_path / "new.csv").write_text("id,a.x,b.z\n=1+1,1,2\n@x,2,3\n-5,,4\n")
    for name in ("mine", "new"):
        good(concordant("data", "from-csv", f"{name}.csv", "--out", name, cwd=tmp_path))
    text = good(concordant("data", "check", "mine", cwd=tmp_path))
    assert "warning: labels: every label of all lies on one side of 0, so that accuracy" in text
    assert "a swap with another class cannot be measured and is left out" in text
    assert "there are none: `concordant predict` reads the dataset" in good(
        concordant("data", "check", "new", cwd=tmp_path)
    )
    done = concordant("run", "mine", "--out", "run", *SHORT, cwd=tmp_path)
    results = json.loads(good(done))
    assert "warning: labels: every label of test lies on one side of 0" in " ".join(done.stderr.split())
    assert set(results["runs"][0]["corruption"]) == {"noise", "dimensions", "zero"}
    assert "corruption.swap" not in {one["condition"] for one in results["comparisons"]}
    lost = concordant("stress", "run", "--removal", "--data", ".", cwd=tmp_path)
    assert (lost.returncode, "name the folder of one with --data" in lost.stderr) == (1, True)
    stressed = concordant("stress", "run", "--removal", "--data", "mine", "--jobs", "1", "--json", "-", cwd=tmp_path)
    assert json.loads(good(stressed))["command"] == "concordant stress run --removal --data mine"
    page = (tmp_path / "run" / "report.html").read_text()
    assert "concordant run mine --fusion" in page
    assert "concordant stress run --corruption --data mine" in page
    asked = ("predict", "run", "--data", "new", "--trained-on", "mine", "--out", "p.csv", "--json", "-")
    assert json.loads(good(concordant(*asked, cwd=tmp_path)))["accuracy"] is None
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert [line.split(",")[:3] for line in lines[1:]] == [['"\'=1+1"', "", ""], ['"\'@x"', "", ""], ['"-5"', "", ""]]
    done = concordant("run", "new", *SHORT, cwd=tmp_path)
    assert done.returncode == 1
    assert "has no labels to train or test on; `concordant predict` reads it" in done.stderr


def test_an_error_in_the_data_exits_with_1(tmp_path):
    lines = ["label,a.x,b.z,split", *(f"{int(k > 30)},{k},{-k},{'test' if k > 30 else 'train'}" for k in range(40))]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    good(concordant("data", "from-csv", "mine.csv", "--out", "mine", cwd=tmp_path))
    done = concordant("data", "check", "mine", cwd=tmp_path)
    assert done.returncode == 1
    assert (
        "error: labels: class '1' occurs 9 times in valid or test and never in train: it cannot be learned"
        in done.stdout
    )
    done = concordant("data", "check", "gone", cwd=tmp_path)
    assert done.returncode == 1
    assert "error: files: the dataset folder gone is not there" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (
            ("prepare", "imagenet", "--source", ".", "--out", "x"),
            2,
            "unknown dataset 'imagenet'; choose from: scene15",
        ),
        (
            ("prepare", "cmu-mosi", "--source", "gone.pkl", "--out", "x"),
            2,
            "--source gone.pkl is not there; cmu-mosi takes",
        ),
        (("prepare", "cmu-mosi", "--source", ".", "--out", "x"), 1, ". must hold one pickle, or name it with --source"),
        (("from-numpy", "gone.npz", "--out", "x"), 1, "gone.npz cannot be read as NumPy arrays"),
        (("describe", "gone"), 1, "the dataset folder gone is not there"),
    ],
)
def test_wrong_use_is_one_sentence(tmp_path, arguments, status, said):
    done = concordant("data", *arguments, cwd=tmp_path)
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.startswith(f"concordant: {said}")
    assert done.stderr.count("\n") == 1


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "mine.csv").write_text("label,a.x\n0,1\n1,2\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("x")
    done = concordant("data", "from-csv", "mine.csv", "--out", "full", cwd=tmp_path)
    assert done.returncode == 2
    assert "full is there already and is not empty" in done.stderr
    assert (tmp_path / "full" / "precious").read_text() == "x"


def test_a_dataset_may_be_prepared_in_the_empty_folder_one_works_in(tmp_path, monkeypatch, capsys):
    from concordant.cli.data import prepare_command

    mmsa(tmp_path / "x.pkl")
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path / "made")
    prepare_command("cmu-mosi", Path("../x.pkl"), Path())
    assert "cmu-mosi: 45 instances of text, audio, vision in ." in capsys.readouterr().out
    assert (tmp_path / "made" / "concordant.json").is_file()


def test_list_says_what_files_each_takes(tmp_path):
    from concordant.benchmarks.catalogue import BENCHMARKS, DATASETS

    text = good(concordant("data", "list", cwd=tmp_path))
    assert set(DATASETS) == set(BENCHMARKS) - {"digits", "own"}
    for name in DATASETS:
        assert DATASETS[name].home in text
        assert DATASETS[name].files in text
    entries = json.loads(good(concordant("data", "list", "--json", "-", cwd=tmp_path)))
    assert [one["name"] for one in entries] == list(DATASETS)


def test_an_archive_is_prepared_to_where_run_looks_for_it_and_is_listed_as_there(tmp_path):
    from scipy.io import savemat

    draws = np.random.default_rng(0)
    cells = np.empty((1, 3), object)
    cells[0, :] = [draws.normal(size=(size, 300)) for size in (20, 59, 40)]
    savemat(tmp_path / "scene15_mtv.mat", {"X": cells, "gt": np.arange(300)[:, None] % 15 + 1})
    told = {"cwd": tmp_path, "XDG_DATA_HOME": str(tmp_path)}
    text = good(concordant("data", "prepare", "scene15", "--source", ".", **told))
    assert "scene15: label (300,), view0 (300, 20), view1 (300, 59), view2 (300, 40)" in text
    assert "note: it has 300 rows where 4,485 are published: results do not compare" in text
    assert f"there   {tmp_path / 'concordant' / 'scene15.npz'}" in good(concordant("data", "list", **told))
    there = {one["name"]: one["there"] for one in json.loads(good(concordant("data", "list", "--json", "-", **told)))}
    assert [name for name, place in there.items() if place] == ["scene15"]
    good(concordant("run", "scene15", *SHORT, **told))
    done = concordant("data", "prepare", "scene15", "--source", ".", **told)
    assert (done.returncode, "scene15.npz is there already; name another folder" in done.stderr) == (2, True)
    done = concordant("data", "prepare", "scene15", "--source", ".", CONCORDANT_DATA="s3://x", **told)
    assert (done.returncode, "CONCORDANT_DATA is a URL, to which nothing is written" in done.stderr) == (2, True)


def crema_d(folder, film):
    """Sounds, films and split lists of thirty clips; one film is cut off."""
    import soundfile

    for name in ("AudioWAV", "VideoFlash"):
        (folder / name).mkdir(parents=True)
    draws = np.random.default_rng(0)
    lines = {"train": [], "test": []}
    emotions = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
    one = film(folder / "one.flv", seconds=1.0, size=(32, 24), sound=False)
    for number in range(36):
        emotion = emotions[number % 6]
        clip = f"10{number % 7:02d}_IEO_{emotion}_XX{number // 7}"
        soundfile.write(folder / "AudioWAV" / f"{clip}.wav", 0.1 * draws.standard_normal(16000), 16000)
        (folder / "VideoFlash" / f"{clip}.flv").write_bytes(one.read_bytes()[: 200 if number == 8 else None])
        lines["test" if number >= 24 else "train"].append(f"{clip},{emotion}\r\n")
    one.unlink()
    (folder / "lists").mkdir()
    for split, text in lines.items():
        (folder / "lists" / f"{split}.csv").write_bytes(b"\xef\xbb\xbf" + "".join(text).encode())


def kinetics_sounds(folder, film):
    folder.mkdir()
    one = film(folder / "one.mp4", seconds=1.0, size=(32, 24))
    lines = {"train": [], "test": []}
    for number in range(30):
        (folder / f"clip{number}.mp4").write_bytes(one.read_bytes())
        lines["test" if number >= 20 else "train"].append(f"clip{number},10,{number % 5}\n")
    for split, text in lines.items():
        (folder / f"my_{split}.txt").write_text("".join(text))


def ucf101(folder, film):
    lists = folder / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    classes = ("Archery", "Bowling", "Diving")
    (lists / "classInd.txt").write_text("".join(f"{k + 1} {name}\n" for k, name in enumerate(classes)))
    lines = {"train": [], "test": []}
    one = film(folder / "one.avi", seconds=0.6, size=(32, 24), sound=False)
    for number in range(30):
        name, test = classes[number % 3], number >= 18
        file = f"{name}/v_{name}_g{number // 3 + 1:02d}_c01.avi"
        (folder / name).mkdir(exist_ok=True)
        (folder / file).write_bytes(one.read_bytes())
        lines["test" if test else "train"].append(f"{file}\n" if test else f"{file} {number % 3 + 1}\n")
    one.unlink()
    for split, text in lines.items():
        (lists / f"{split}list01.txt").write_text("".join(text))


def ave_clips(folder, film):
    (folder / "AVE").mkdir(parents=True)
    one = film(folder / "one.mp4", seconds=10.0, fps=5, size=(32, 24))
    lines = [f"{('Bark', 'Church bell')[k % 2]}&video{k}&good&{k % 3}&{6 + k % 4}\n" for k in range(24)]
    for number in range(24):
        (folder / "AVE" / f"video{number}.mp4").write_bytes(one.read_bytes())
    one.unlink()
    (folder / "Annotations.txt").write_text("Category&VideoID&Quality&StartTime&EndTime\n" + "".join(lines))
    for name, part in (("trainSet", lines[:12]), ("valSet", lines[12:16]), ("testSet", lines[16:])):
        (folder / f"{name}.txt").write_text("".join(part))


def test_utd_mhad_s_own_files(tmp_path):
    from scipy.io import savemat

    draws = np.random.default_rng(0)
    (tmp_path / "files").mkdir()
    for number in range(24):
        stem = tmp_path / "files" / f"a{1 + number // 4 % 2}_s{1 + number % 4}_t{1 + number // 8}_"
        savemat(f"{stem}skeleton.mat", {"d_skel": draws.standard_normal((20, 3, 8 + number % 3))})
        savemat(f"{stem}inertial.mat", {"d_iner": draws.standard_normal((20 + number % 5, 6))})
    text = good(concordant("data", "prepare", "utd-mhad-mat", "--source", "files", "--out", "made", cwd=tmp_path))
    assert "note: 24 recordings have no depth" in text
    done = concordant("data", "check", "made", cwd=tmp_path)
    assert done.returncode == 1
    assert "error: depth: no instance has it; leave it out" in done.stdout
    short = ("--calibrators", "context", "--seeds", "1", "--steps", "2", "--jobs", "1", "--no-alone")
    asked = ("--modalities", "skeleton,inertial", "--fusion", "transformer,sum", "--protocol", "folds")
    done = concordant("run", "utd-mhad-mat", "--data", "made", *asked, *short, cwd=tmp_path)
    assert done.returncode == 1
    assert "5 folds need 5 groups; found 4" in done.stderr
    good(concordant("run", "utd-mhad-mat", "--data", "made", *asked[:-2], *short, cwd=tmp_path))


@pytest.mark.parametrize(
    ("name", "make", "options", "fusion", "notes"),
    [
        (
            "crema-d",
            crema_d,
            ("--lists", "files/lists", "--may-fail", "0.1"),
            "sum",
            ("note: 1 clips could not be decoded and are left out; failures.json says why",),
        ),
        ("kinetics-sounds", kinetics_sounds, ("--spectrogram", "logmel", "--frames", "2"), "sum,lf-lstm", ()),
        ("ucf101", ucf101, ("--split", "1"), "lf-lstm", ("note: split 1 of 3",)),
        ("ave-clips", ave_clips, ("--spectrogram", "pmr"), "sum", ()),
    ],
)
def test_films_and_sounds_are_prepared_checked_and_run(film, tmp_path, name, make, options, fusion, notes):
    pytest.importorskip("soundfile")
    make(tmp_path / "files", film)
    text = good(
        concordant(
            *("data", "prepare", name, "--source", "files", "--out", "made", "--size", "24x32", "--processes", "1"),
            *options,
            cwd=tmp_path,
        )
    )
    for note in notes:
        assert note in text
    assert not (tmp_path / ".made.decoded").exists()
    good(concordant("data", "check", "made", cwd=tmp_path))
    short = ("--calibrators", "context", "--seeds", "1", "--steps", "2", "--jobs", "1", "--no-alone")
    good(concordant("run", name, "--data", "made", "--fusion", fusion, *short, cwd=tmp_path))


def test_too_many_broken_clips_are_one_sentence_and_leave_what_was_decoded(film, tmp_path):
    pytest.importorskip("soundfile")
    crema_d(tmp_path / "files", film)
    done = concordant(
        *("data", "prepare", "crema-d", "--source", "files", "--out", "made", "--processes", "1", "--size", "24"),
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "1 of 36 clips could not be decoded, more than the 2 % that may fail; first: " in done.stderr
    assert "--may-fail allows more" in done.stderr
    assert not (tmp_path / "made").exists()
    assert len(list((tmp_path / ".made.decoded").iterdir())) == 8


def test_options_of_other_datasets_are_refused(tmp_path):
    mmsa(tmp_path / "x.pkl")
    done = concordant("data", "prepare", "cmu-mosi", "--source", "x.pkl", "--out", "y", "--fps", "2", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "concordant: --fps does not apply to cmu-mosi, which takes no options\n"
    done = concordant("data", "prepare", "ucf101", "--source", ".", "--out", "y", "--size", "big", cwd=tmp_path)
    assert "--size must be a number such as 224, or height x width such as 120x160; found 'big'" in done.stderr


def test_a_dataset_that_is_called_like_a_benchmark_is_not_mistaken_for_it(tmp_path):
    np.savez(tmp_path / "x.npz", label=np.arange(40) % 2, a=np.ones((40, 3)), b=np.ones((40, 2)))
    made = concordant("data", "from-numpy", "x.npz", "--out", "digits", cwd=tmp_path)
    assert "next: concordant data check ./digits, concordant run ./digits" in " ".join(good(made).split())
    done = concordant("run", "digits", *SHORT, cwd=tmp_path)
    assert done.returncode == 2
    assert "digits is a benchmark and a prepared dataset in this folder; write ./digits for the dataset" in done.stderr
    done = concordant("run", "./digits", "--data", "x", *SHORT, cwd=tmp_path)
    assert done.returncode == 2
    assert "--data x: ./digits is the dataset itself; leave one of them out" in done.stderr
