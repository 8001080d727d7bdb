import pytest
import torch

from concordant.files import read_json
from concordant.training.config import Variant, make_config
from concordant.training.runs import prepare_of
from concordant.training.train import train
from studies.paper.grid import Cell
from studies.paper.plan import Experiment
from studies.paper.timing import FILE, stepper, time_cell


def test_times_are_measured_once_in_turn(made, tmp_path):
    config = make_config("digits", fusion="lf-dnn", calibrators=("none", "context"), recipe={"width": 8})
    experiment = Experiment(Cell(made.grid.families[0], "lf-dnn", first=True), config, tmp_path)
    threads = torch.get_num_threads()
    found = time_cell(experiment, turns=3)
    assert set(found["methods"]) == {"none", "none+perturbed", "context"}
    assert found["methods"]["none+perturbed"]["relative"] == 1
    assert all(one["median_ms"] > 0 for one in found["methods"].values())
    assert read_json(tmp_path / FILE) == found
    assert time_cell(experiment, turns=3) == found
    assert torch.get_num_threads() == threads


def test_a_timed_step_is_a_step_of_training():
    recipe = {"width": 8, "steps": 1, "dropout": 0.0}
    config = make_config("digits", fusion="lf-dnn", calibrators=("context",), recipe=recipe)
    task, variant = prepare_of(config, None, seed=0), Variant("context", True)
    loss = stepper(task, config, variant)()
    assert float(loss) == pytest.approx(train(task, config, variant, 0).history[0]["loss"])
