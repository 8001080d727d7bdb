import tracemalloc
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("datasets")

import pyarrow.parquet as pq
from pyarrow import csv

from concordant.data.card import Card, LabelCard, ModalityCard
from concordant.data.store import Instance
from concordant.data.writing import write_store
from concordant.deploy.opening import open_deployed
from concordant.deploy.predicting import Totals, open_asked, predict_run, tables
from concordant.errors import DataError, UsageError
from concordant.study.experiment import study
from concordant.training.config import make_config
from concordant.training.runs import open_runs


def make(folder, *, kind="class", count=80, seed=0, sensor=4, classes=("low", "mid", "high")):
    """Write a dataset of a vector and a sequence that is sometimes absent."""
    draws = np.random.default_rng(seed)
    label = LabelCard(kind="real") if kind == "real" else LabelCard(kind="class", classes=classes)
    card = Card(
        name="sensors",
        modalities={
            "sensor": ModalityCard(layout="bd", shape=(sensor,)),
            "sound": ModalityCard(layout="btd", shape=(None, 3)),
        },
        label=label,
        groups="speaker",
    )
    splits = ("train", "train", "valid", "test")

    def instances():
        for row in range(count):
            steps = int(draws.integers(2, 9))
            features = {
                "sensor": 40 * (draws.standard_normal(sensor) + row % 3),
                "sound": None if row % 10 == 7 else draws.standard_normal((steps, 3)) + row % 3,
            }
            value = float(row % 3) - 1 if kind == "real" else row % 3
            yield Instance(f"i{row}", splits[row // 4 % 4], value, features, f"g{row // 4}")

    write_store(folder, card, instances())
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Datasets and a run of each kind of labels."""
    root = tmp_path_factory.mktemp("predict")
    for kind in ("class", "real"):
        data = make(root / f"data-{kind}", kind=kind)
        config = make_config(
            "own", calibrators=("none", "context"), seeds=1, modalities=("sensor", "sound"), recipe={"steps": 20}
        )
        study(config, root / f"run-{kind}", data=data, jobs=1, baselines=False)
    make(root / "other", seed=5, count=33, classes=("low", "mid", "high"))
    return root


def test_predictions_of_the_test_part_are_those_of_the_run(world, tmp_path):
    out = tmp_path / "said.parquet"
    document = predict_run(world / "run-class", out, data=world / "data-class")
    rows = pq.read_table(out).to_pydict()
    stored = pq.read_table(world / "run-class" / "runs" / "context" / "seed-0" / "predictions.parquet").to_pydict()
    clean = [place for place, condition in enumerate(stored["condition"]) if condition == "clean"]
    names = ("low", "mid", "high")
    assert rows["id"] == [stored["id"][place] for place in clean]
    assert rows["group"] == [stored["group"][place] for place in clean]
    assert rows["label"] == [names[stored["label"][place]] for place in clean]
    assert rows["prediction"] == [names[stored["prediction"][place]] for place in clean]
    np.testing.assert_allclose(rows["confidence"], [stored["confidence"][place] for place in clean], rtol=1e-5)
    for name in ("sensor", "sound"):
        expected = [stored[f"reliability_{name}"][place] for place in clean]
        found = rows[f"reliability_{name}"]
        assert [one is None for one in found] == [one is None for one in expected]
        kept = [(a, b) for a, b in zip(found, expected, strict=True) if a is not None]
        np.testing.assert_allclose(*zip(*kept, strict=True), rtol=1e-5)
        assert document["reliability"][name] == pytest.approx(np.mean([a for a, _ in kept]), rel=1e-5)
    assert None in rows["reliability_sound"]
    assert document["instances"] == len(clean)
    right = np.mean([a == b for a, b in zip(rows["label"], rows["prediction"], strict=True)])
    assert document["accuracy"] == pytest.approx(right)


def test_another_dataset_is_predicted_as_a_whole_with_the_scaling_of_the_training(world, tmp_path):
    out = tmp_path / "other.csv"
    document = predict_run(world / "run-class", out, data=world / "other", trained_on=world / "data-class")
    assert document["instances"] == 33
    table = csv.read_csv(out)
    assert table.column_names == [
        "id", "group", "label", "prediction", "confidence", "reliability_sensor", "reliability_sound"
    ]  # fmt: skip
    assert table.column("id").to_pylist() == [f"i{row}" for row in range(33)]
    again = predict_run(world / "run-class", tmp_path / "same.parquet", data=world / "data-class")
    rows = pq.read_table(tmp_path / "same.parquet").to_pydict()
    assert again["instances"] == 20
    model = open_deployed(open_runs(world / "run-class"), data=world / "data-class")[0]
    scale = model.scales["sensor"]
    assert float(scale.std.max()) > 10  # inputs are scaled within
    assert set(rows["prediction"]) <= {"low", "mid", "high"}


def test_pieces_and_rows_at_a_time_change_nothing(world, tmp_path, monkeypatch):
    options = {"data": world / "other", "trained_on": world / "data-class"}
    whole = pq.read_table(_path(predict_run(world / "run-class", tmp_path / "whole.parquet", **options)))
    monkeypatch.setattr("concordant.deploy.predicting.ROWS", 4)
    monkeypatch.setattr("concordant.data.stored.LEAST_CHUNK", 10)
    monkeypatch.setattr("concordant.data.stored.CHUNK_BYTES", 1)
    told = []
    document = predict_run(
        world / "run-class", tmp_path / "bits.parquet", progress=lambda *told_now: told.append(told_now[:2]), **options
    )
    bits = pq.read_table(_path(document))
    assert told[0] == (4, 33)
    assert told[-1] == (33, 33)
    for column in whole.column_names:
        one, other = whole.column(column).to_pylist(), bits.column(column).to_pylist()
        if isinstance(one[0], float):
            assert [x is None for x in one] == [x is None for x in other]
            np.testing.assert_allclose(
                [0 if x is None else x for x in one], [0 if x is None else x for x in other], atol=1e-5
            )
        else:
            assert one == other


def _path(document):
    return document["file"]


def test_memory_does_not_grow_with_the_dataset(world, tmp_path, monkeypatch):
    monkeypatch.setattr("concordant.data.stored.CHUNK_BYTES", 1)
    peaks = []
    for count in (400, 1600):
        folder = make(tmp_path / str(count), count=count, sensor=4, seed=2)
        asked = open_asked(world / "run-class", data=folder, trained_on=world / "data-class", label=None, seed=0)
        totals = Totals(2)
        next(tables(*asked, totals))  # what is made once
        tracemalloc.start()
        for _ in tables(*asked, totals):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_numbers_are_predicted_as_numbers(world, tmp_path):
    document = predict_run(world / "run-real", tmp_path / "real.parquet", data=world / "data-real", label="none")
    rows = pq.read_table(tmp_path / "real.parquet").to_pydict()
    assert document["accuracy"] is None
    assert document["reliability"] is None
    assert set(rows["label"]) == {-1.0, 0.0, 1.0}
    assert all(isinstance(one, float) for one in rows["prediction"])
    assert set(rows["confidence"]) == {None}
    assert set(rows["reliability_sensor"]) == {None}


def test_a_shared_folder_predicts_without_the_data_of_its_training(world, tmp_path):
    pytest.importorskip("huggingface_hub")
    from concordant.deploy.sharing import share_run

    share_run(open_runs(world / "run-class"), tmp_path / "model", data=world / "data-class")
    predict_run(tmp_path / "model", tmp_path / "one.parquet", data=world / "other")
    options = {"data": world / "other", "trained_on": world / "data-class"}
    predict_run(world / "run-class", tmp_path / "two.parquet", **options)
    assert pq.read_table(tmp_path / "one.parquet").equals(pq.read_table(tmp_path / "two.parquet"))
    with pytest.raises(UsageError, match=r"model holds one model and its scaling; leave --calibrator, --seed"):
        predict_run(tmp_path / "model", tmp_path / "no.parquet", data=world / "other", label="none")


def test_a_shared_folder_of_a_benchmark_predicts_its_test_part(shared_run, tmp_path):
    pytest.importorskip("huggingface_hub")
    from concordant.deploy.sharing import share_run

    share_run(shared_run, tmp_path / "model")
    one = predict_run(tmp_path / "model", tmp_path / "one.csv")
    two = predict_run(shared_run.path, tmp_path / "two.csv")
    assert one["accuracy"] == two["accuracy"]
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_a_folder_that_a_run_on_embedded_data_cannot_read_is_refused(shared_run, tmp_path):
    with pytest.raises(UsageError, match=r"^--data .* is no prepared dataset, and digits reads no files; leave it out"):
        predict_run(shared_run.path, out=tmp_path / "said.parquet", data=tmp_path)


def test_what_does_not_fit_is_told(world, tmp_path):
    run, out = world / "run-class", tmp_path / "x.csv"
    wide = make(tmp_path / "wide", sensor=7)
    with pytest.raises(
        DataError,
        match=r"wide does not fit the model: sensor must be bd with 4 an instance; found bd with 7; ",
    ):
        predict_run(run, out, data=wide, trained_on=world / "data-class")
    with pytest.raises(UsageError, match=r"^--out must end in .parquet or .csv; found x.json$"):
        predict_run(run, Path("x.json"))
    with pytest.raises(UsageError, match=r"^--trained-on goes with --data that names another prepared dataset; leave"):
        predict_run(run, out, data=world / "data-class", trained_on=world / "data-class")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"^--out: cannot write to .*file/x.csv \("):
        predict_run(run, tmp_path / "file" / "x.csv", data=world / "data-class")
    assert not out.exists()


def test_a_dataset_without_a_modality_is_told(world, tmp_path):
    card = Card(
        name="half",
        modalities={"sensor": ModalityCard(layout="bd", shape=(4,))},
        label=LabelCard(classes=("low", "mid", "high")),
    )
    write_store(tmp_path / "half", card, (Instance(f"i{n}", "test", 0, {"sensor": np.zeros(4)}) for n in range(3)))
    with pytest.raises(DataError, match=r"half has no modality sound, which the model reads; it has sensor$"):
        predict_run(world / "run-class", tmp_path / "x.csv", data=tmp_path / "half", trained_on=world / "data-class")


def test_a_shared_folder_predicts_the_test_part_of_the_data_of_its_training(world, tmp_path):
    pytest.importorskip("huggingface_hub")
    from concordant.deploy.sharing import share_run

    share_run(open_runs(world / "run-class"), tmp_path / "model", data=world / "data-class")
    one = predict_run(tmp_path / "model", tmp_path / "one.csv", data=world / "data-class")
    two = predict_run(world / "run-class", tmp_path / "two.csv", data=world / "data-class")
    assert one["instances"] == two["instances"] < 80
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
