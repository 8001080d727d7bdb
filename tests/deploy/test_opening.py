import numpy as np
import pytest
import torch

from concordant.data.scaling import fit
from concordant.deploy.opening import choose, open_deployed
from concordant.deploy.raw import raw_parts
from concordant.errors import UsageError


def test_the_scaling_is_that_of_the_training_part_of_the_seed(shared_run):
    for seed in (0, 1):
        found = open_deployed(shared_run, seed=seed)
        train = raw_parts(shared_run.config, seed, None).train
        expected = fit(train.inputs["left"], "bchw")
        np.testing.assert_allclose(found.model.scales["left"].mean.numpy(), expected.mean, rtol=1e-12)
        np.testing.assert_allclose(found.model.scales["left"].std.numpy(), expected.std, rtol=1e-12)


def test_the_weights_are_those_of_the_run(shared_run):
    found = open_deployed(shared_run, label="self", seed=1)
    task = shared_run.task(1, None)
    expected = shared_run.model(task, shared_run.variant("self"), 1).state_dict()
    for name, value in found.model.model.state_dict().items():
        assert torch.equal(value, expected[name])
    assert not found.model.training


def test_ours_is_opened_unless_another_is_named(shared_run):
    assert choose(shared_run, None, 0).label == "context"
    assert choose(shared_run, "none+perturbed", 0).perturbed
    with pytest.raises(UsageError, match=r"seed must be one of 0..1, which .* has; found -1"):
        choose(shared_run, None, -1)


def test_a_part_keeps_the_modalities_that_are_named(shared_run):
    whole = raw_parts(shared_run.config, 0, None).test
    part = whole.only(("profile", "left"))
    assert list(part.inputs) == ["profile", "left"]
    assert len(part) == len(whole)
