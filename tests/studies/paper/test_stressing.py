"""What was asked before, and the rows of what a model says, without training or asking anything."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from concordant.data.split import Split
from concordant.errors import DataError
from concordant.robustness.predict import Predictions
from concordant.training.config import make_config
from concordant.training.folder import ExperimentFolder
from concordant.training.paired import Job
from concordant.training.runs import WEIGHTS
from studies.paper.stressing import ASKED, FILE, TOLD, _table, _write, asked_of, open_questions

CONFIG = make_config("digits", calibrators=("none", "self"), seeds=2)
NAMES = ("left", "right")
HIT = np.array([[True, False], [False, False], [False, True]])


def part(*, labels=(0, 2, 1), groups=("a", "b", "a")):
    inputs = {name: np.zeros((3, 4), np.float32) for name in NAMES}
    kind = np.float32 if isinstance(labels[0], float) else np.int64
    ids = np.array(["x", "y", "z"])
    return Split(inputs, np.array(labels, kind), ids, None if groups is None else np.array(groups))


def answer(reliability=None, *, logits=((1, 0, 0), (0, 1, 0), (0, 2, 0)), present=((1, 1), (1, 0), (1, 1))):
    known = None if reliability is None else np.array(reliability, np.float32)
    return Predictions(np.array(logits, np.float32), known, np.array(present, np.bool_))


@pytest.fixture
def job(tmp_path):
    """Return the job of seed 0, whose runs have weights and were asked at severities 1 and 5."""
    for variant in CONFIG.variants:
        run = ExperimentFolder(tmp_path).run(variant, 0)
        run.mkdir(parents=True)
        (run / WEIGHTS).write_bytes(variant.label.encode())
        asked(run, (1, 5))
    return Job(CONFIG, CONFIG.variants[0], 0, tmp_path, None)


def asked(run, severities):
    rows = [_table("validation", part(), answer(), HIT & False, NAMES), _table("clean", part(), answer(), HIT, NAMES)]
    _write(run, rows, {ASKED: asked_of(run, severities), TOLD: {"swap": "oracle.left+right"}})


def labels(job, severities=(1, 5)):
    return [variant.label for variant in open_questions(job, severities)]


def run_of(job, number):
    return ExperimentFolder(job.folder).run(job.config.variants[number], job.seed)


def test_what_is_asked_is_told_by_severities_and_weights(tmp_path):
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert asked_of(tmp_path, (1, 3)) == {"severities": [1, 3], "weights": digest}
    (tmp_path / WEIGHTS).write_bytes(b"others")
    assert asked_of(tmp_path, (1, 3))["weights"] != digest


def test_only_what_is_new_is_open(job):
    assert labels(job) == []
    assert labels(job, [1, 5]) == []
    assert labels(job, (1, 3, 5)) == labels(job, (5, 1)) == ["none", "none+perturbed", "self"]
    (run_of(job, 1) / FILE).unlink()
    assert labels(job) == ["none+perturbed"]
    (run_of(job, 2) / WEIGHTS).write_bytes(b"trained anew")
    assert labels(job) == ["none+perturbed", "self"]
    asked(run_of(job, 2), (1, 5))
    assert labels(job) == ["none+perturbed"]


def test_another_seed_has_its_own_questions(job):
    assert labels(Job(CONFIG, CONFIG.variants[0], 1, job.folder, None)) == ["none", "none+perturbed", "self"]


def test_a_file_without_what_was_asked_is_asked_anew(job):
    path = run_of(job, 0) / FILE
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    assert labels(job) == ["none"]


@pytest.mark.parametrize("content", [b"", b"no parquet", b"PAR1 cut off"])
def test_a_file_that_is_none_is_named(job, content):
    path = run_of(job, 1) / FILE
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_questions(job, (1, 5))
    assert str(caught.value).startswith(f"{path} cannot be used (")
    assert str(caught.value).endswith("); remove it to have it made again")


def test_weights_that_are_gone_are_named(job):
    (run_of(job, 2) / WEIGHTS).unlink()
    with pytest.raises(DataError, match=r"seed-0/weights.safetensors cannot be read \(No such file or directory\)"):
        open_questions(job, (1, 5))


def test_a_row_says_who_was_hit_and_what_came_of_it():
    table = _table("corruption.swap.5", part(), answer([[0.5, 0.25], [1, 0], [0.75, 0.125]]), HIT, NAMES)
    assert table.to_pylist() == [
        {
            "condition": "corruption.swap.5",
            "id": name,
            "group": group,
            "label": label,
            "prediction": said,
            "hit": hit,
            "reliability_left": left,
            "reliability_right": right,
        }
        for name, group, label, said, hit, left, right in (
            ("x", "a", 0, 0, "left", 0.5, 0.25),
            ("y", "b", 2, 1, None, 1.0, None),  # its right is absent
            ("z", "a", 1, 1, "right", 0.75, 0.125),
        )
    ]


def test_what_there_is_not_is_null():
    table = _table("clean", part(groups=None), answer(), HIT & False, NAMES)
    for column in ("group", "hit", "reliability_left", "reliability_right"):
        assert table.column(column).null_count == 3
    assert table.schema.field("group").type == pa.string()
    assert table.schema.field("reliability_left").type == pa.float32()


def test_numbers_are_predicted_as_numbers():
    said = answer(logits=((-0.5,), (2.25,), (0.0,)))
    table = _table("clean", part(labels=(-1.5, 2.0, 0.5)), said, HIT, NAMES)
    assert table.column("label").to_pylist() == [-1.5, 2.0, 0.5]
    assert table.column("prediction").to_pylist() == [-0.5, 2.25, 0.0]


def test_conditions_of_a_file_are_in_order_and_what_was_asked_goes_with_them(job):
    table = pq.read_table(run_of(job, 0) / FILE)
    assert table.column("condition").to_pylist() == 3 * ["validation"] + 3 * ["clean"]
    assert table.column("hit").to_pylist() == [None, None, None, "left", None, "right"]
    assert {ASKED, TOLD} <= set(table.schema.metadata)
    assert [path.name for path in run_of(job, 0).iterdir() if path.name not in (FILE, WEIGHTS)] == []
