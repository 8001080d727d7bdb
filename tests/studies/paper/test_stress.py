"""Conditions in their order, the answers of a run as a table, and which answers are missing."""

import hashlib

import numpy as np
import pyarrow.parquet as pq
import pytest

from concordant.benchmarks.catalogue import prepare
from concordant.errors import DataError
from concordant.files import write_atomically
from concordant.robustness.answers import evaluate
from concordant.robustness.conditions import CLEAN, SplitContext, oracle_name
from concordant.robustness.corruptions import KINDS
from concordant.study.experiment import Execution
from concordant.training.config import make_config
from concordant.training.processes import Job
from concordant.training.runs import WEIGHTS, RunFolder, open_runs, prepare_of
from studies.paper.stress import FILE, ORACLES, REQUEST, VALIDATION, conditions, request_of, stress_all, unanswered

CONFIG = make_config("digits", calibrators=("none", "self"), seeds=2)


@pytest.fixture(scope="module")
def shown():
    task = prepare("digits", seed=0)
    return task, list(conditions(task.test, SplitContext(task.layouts), (1, 5), seed=0))


def test_every_condition_is_there_once_and_in_order(shown):
    task, found = shown
    names = [one.name for one in found]
    assert len(set(names)) == len(names)
    assert names[0] == CLEAN
    context = SplitContext(task.layouts)
    able = {name: context.able(KINDS[name], task.test.shapes) for name in KINDS}
    assert len([names for names in able.values() if names]) > 10
    for kind, modalities in able.items():
        if modalities:
            assert {f"corruption.{kind}.1", f"corruption.{kind}.5", oracle_name(modalities)} <= set(names)
    assert names[-3:] == ["removal.left", "removal.right", "removal.profile"]


def test_the_answers_of_a_run_are_those_of_its_model(made):
    runs = open_runs(made.out / "digits" / "lf-dnn")
    task = prepare_of(runs.config, None, seed=1)
    variant = runs.variant("context")
    model = runs.model(task, variant, 1)
    wanted = ("clean", "corruption.swap.5", "removal.left")
    asked = [one for one in conditions(task.test, SplitContext(task.layouts), (1, 5), 1) if one.name in wanted]
    answers = evaluate(model, task.test, asked)
    table = pq.read_table(runs.run(variant, 1) / FILE)
    assert {REQUEST, ORACLES} <= set(table.schema.metadata)
    condition = table.column("condition").to_numpy(zero_copy_only=False)
    assert list(dict.fromkeys(condition))[:2] == [VALIDATION, CLEAN]
    for name in wanted:
        rows = table.filter(condition == name)
        assert np.array_equal(rows.column("prediction").to_numpy(), answers.rows[name].prediction)
        for column, modality in enumerate(answers.names):
            kept = rows.column(f"reliability_{modality}").to_numpy(zero_copy_only=False)
            expected = np.where(
                answers.rows[name].present[:, column], answers.rows[name].reliability[:, column], np.nan
            )
            np.testing.assert_allclose(kept, expected, rtol=1e-5)
        victims = rows.column("corrupted").to_pylist()
        assert [one for one in victims if one is not None] == [
            answers.names[row.argmax()] for row in answers.rows[name].perturbed if row.any()
        ]
    assert len(table.filter(condition == VALIDATION)) == len(task.valid)


@pytest.fixture
def job(tmp_path):
    """Return the job of seed 0, whose runs have weights and answers at severities 1 and 5."""
    for variant in CONFIG.variants:
        run = RunFolder(tmp_path).run(variant, 0)
        run.mkdir(parents=True)
        (run / WEIGHTS).write_bytes(variant.label.encode())
        answered(run, (1, 5))
    return Job(CONFIG, CONFIG.variants[0], 0, tmp_path, None)


def answered(run, severities):
    import json

    import pyarrow as pa

    table = pa.table({"condition": ["clean"]}).replace_schema_metadata(
        {REQUEST: json.dumps(request_of(run, severities))}
    )
    write_atomically(run / FILE, lambda path: pq.write_table(table, path))


def labels(job, severities=(1, 5)):
    return [variant.label for variant in unanswered(job, severities)]


def run_of(job, number):
    return RunFolder(job.folder).run(job.config.variants[number], job.seed)


def test_answers_are_defined_by_severities_and_weights(tmp_path):
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert request_of(tmp_path, (1, 3)) == {"severities": [1, 3], "weights": digest}
    (tmp_path / WEIGHTS).write_bytes(b"others")
    assert request_of(tmp_path, (1, 3))["weights"] != digest


def test_only_missing_answers_are_asked_for(job):
    assert labels(job) == []
    assert labels(job, [1, 5]) == []
    assert labels(job, (1, 3, 5)) == labels(job, (5, 1)) == ["none", "none+perturbed", "self"]
    (run_of(job, 1) / FILE).unlink()
    assert labels(job) == ["none+perturbed"]
    (run_of(job, 2) / WEIGHTS).write_bytes(b"trained anew")
    assert labels(job) == ["none+perturbed", "self"]
    answered(run_of(job, 2), (1, 5))
    assert labels(job) == ["none+perturbed"]
    path = run_of(job, 0) / FILE
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    assert labels(job) == ["none", "none+perturbed"]
    assert labels(Job(CONFIG, CONFIG.variants[0], 1, job.folder, None)) == ["none", "none+perturbed", "self"]


def test_existing_answers_are_kept_and_a_missing_file_is_made_again(made):
    seen = []
    how = Execution(jobs=1, progress=lambda *state: seen.append(state))
    stress_all(made.plan, made.grid.severities, how)
    assert seen == []
    run = made.out / "digits" / "lf-dnn-ablations" / "runs" / "context-no-support" / "seed-0"
    before = (run / FILE).read_bytes()
    (run / FILE).unlink()
    stress_all(made.plan, made.grid.severities, how)
    assert [line for _, _, line in seen] == ["stress digits/lf-dnn ablations, seed 0"]
    assert (run / FILE).read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"no parquet", b"PAR1 cut off"])
def test_a_file_that_cannot_be_read_is_named(job, content):
    path = run_of(job, 1) / FILE
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        unanswered(job, (1, 5))
    assert str(caught.value).startswith(f"{path} cannot be used (")
    assert str(caught.value).endswith("); remove it to have it made again")


def test_absent_weights_are_named(job):
    (run_of(job, 2) / WEIGHTS).unlink()
    with pytest.raises(DataError, match=r"seed-0/weights.safetensors cannot be read \(No such file or directory\)"):
        unanswered(job, (1, 5))
