import json
import shutil

import numpy as np
import pytest
import torch

from concordant.data.scaling import fit
from concordant.deploy.opening import load_shared, open_deployed
from concordant.deploy.raw import raw_parts
from concordant.deploy.sharing import share_run
from concordant.errors import DataError, UsageError
from concordant.training.runs import RunFolder


def test_the_scaling_is_that_of_the_training_part_of_the_seed(shared_run):
    for seed in (0, 1):
        model, _ = open_deployed(shared_run, seed=seed)
        train = raw_parts(shared_run.config, seed, None).train
        expected = fit(train.inputs["left"], "bchw")
        np.testing.assert_allclose(model.scales["left"].mean.numpy(), expected.mean, rtol=1e-12)
        np.testing.assert_allclose(model.scales["left"].std.numpy(), expected.std, rtol=1e-12)


def test_the_weights_are_those_of_the_run(shared_run):
    model, _ = open_deployed(shared_run, label="self", seed=1)
    task = shared_run.task(1, None)
    expected = shared_run.model(task, shared_run.variant("self"), 1).state_dict()
    for name, value in model.model.state_dict().items():
        assert torch.equal(value, expected[name])
    assert not model.training


def test_ours_is_opened_unless_another_is_named(shared_run):
    for label, opened in ((None, "context"), ("none+perturbed", "none+perturbed")):
        assert open_deployed(shared_run, label=label)[0].description.label == opened
    with pytest.raises(UsageError, match=r"seed must be one of 0..1, which .* has; found -1"):
        open_deployed(shared_run, seed=-1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["comparisons"][0].update(ci95=1.5), r"must hold a list as comparisons\[0\].ci95; found float"),
        (lambda d: d["runs"][0].pop("calibrator"), r"lacks runs\[0\].calibrator"),
        (lambda d: d["comparisons"][0].update(ci95=[]), "cannot be read as results"),
        (lambda d: d.update(baselines=-1), "cannot be read as results"),
    ],
)
def test_results_that_are_not_whole_are_one_sentence(shared_run, tmp_path, change, said):
    path = shutil.copytree(shared_run.path, tmp_path / "run") / "results.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=said) as caught:
        open_deployed(RunFolder(tmp_path / "run"), label="context")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["shapes"].update(left=[1, 10**9, 10**9]), "a layer of 1000000000 by .* announces .* bytes"),
        (lambda d: d["config"]["recipe"].update(width=10**8), "width: input should be less than or equal to 16384"),
        (lambda d: d.update(classes=["a", "b"]), "does not match config.json: "),
    ],
)
def test_a_description_far_larger_than_its_weights_is_refused_before_it_is_built(shared_run, tmp_path, change, said):
    share_run(shared_run, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    content = json.loads(path.read_text())
    change(content["description"])
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=said):
        load_shared(tmp_path / "model")


def test_a_part_keeps_the_modalities_that_are_named(shared_run):
    whole = raw_parts(shared_run.config, 0, None).test
    part = whole.only(("profile", "left"))
    assert list(part.inputs) == ["profile", "left"]
    assert len(part) == len(whole)
