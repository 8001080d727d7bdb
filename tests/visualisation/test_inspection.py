import json
import shlex
import shutil

import pyarrow.parquet as pq
import pytest

from concordant.errors import UsageError
from concordant.training.runs import open_runs
from concordant.visualisation.inspection import explain_sample, inspect_features, open_inspected


@pytest.fixture(scope="module")
def folder(digits_run, tmp_path_factory):
    return shutil.copytree(digits_run, tmp_path_factory.mktemp("inspected") / "two words")


@pytest.fixture(scope="module")
def inspected(folder):
    return open_inspected(open_runs(folder))


@pytest.fixture(scope="module")
def document(inspected):
    return inspect_features(inspected)


def test_ours_is_inspected_unless_another_is_named(folder, inspected):
    assert inspected.label == "context"
    assert open_inspected(open_runs(folder), label="self", seed=1).label == "self"


def test_the_document_is_written_with_every_instance_beside_it(folder, inspected, document):
    assert json.loads((folder / "analyses" / "features.json").read_text()) == document
    assert document["schema"] == "concordant.features/1"
    again = ["concordant", "inspect", str(folder), "--calibrator", "context", "--seed", "0"]
    assert shlex.split(document["command"]) == again
    assert document["modalities"] == ["left", "right", "profile"]
    table = pq.read_table(folder / "analyses" / "features.parquet")
    assert table.num_rows == len(inspected.task.test) == 360
    for column in ("id", "reliability_left", "support_left_right", "conflict_right_profile"):
        assert column in table.column_names


def test_distrusted_instances_can_be_looked_up(inspected, document):
    one = document["distrusted"][0]
    explanation = explain_sample(inspected, one["id"])
    verdict = next(v for v in explanation.verdicts if v.modality == one["modality"])
    assert verdict.reliability == pytest.approx(one["reliability"], abs=1e-5)
    assert verdict.usual == pytest.approx(one["usual"], abs=1e-5)
    assert explanation.label == one["label"]
    assert explanation.prediction == one["prediction"]
    assert explanation.right == one["right"]


def test_an_unknown_instance_names_near_ones(inspected):
    with pytest.raises(
        UsageError, match=r"no instance 'digit-x' in the test split of seed 0; some that are: digit-\d+"
    ):
        explain_sample(inspected, "digit-x")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"label": "none"}, "none gives no reliability; choose from: self, context"),
        ({"label": "gmu"}, "unknown calibrator 'gmu'"),
        ({"seed": 2}, r"seed must be one of 0..1, which .* has; found 2"),
        ({"seed": -1}, "found -1"),
    ],
)
def test_wrong_choices_are_refused(folder, options, text):
    with pytest.raises(UsageError, match=text):
        open_inspected(open_runs(folder), **options)
