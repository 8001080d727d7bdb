import numpy as np
import pytest
import torch

from concordant.data.scaling import apply, fit
from concordant.deploy.deployed import Description, InputScale, read_description
from concordant.errors import DataError, UsageError


@pytest.mark.parametrize("layout", ["bd", "btd", "bchw", "bcthw"])
@pytest.mark.parametrize("masked", [False, True])
def test_inputs_are_scaled_bit_for_bit_as_in_training(layout, masked):
    rng = np.random.default_rng(0)
    sizes = {"b": 7, "t": 6, "d": 5, "c": 3, "h": 4, "w": 2}
    x = rng.normal(3, 40, [sizes[axis] for axis in layout]).astype(np.float32)
    x[..., 0] = 2.0  # constant in vectors and sequences
    mask = rng.random((7, 6)) < 0.7 if masked and "t" in layout else None
    here = rng.random(7) < 0.7 if masked else None
    valid = here if mask is None else mask & here[:, None]
    scale = fit(x, layout, valid)
    module = InputScale(layout, x.shape[1:])
    for buffer, values in zip(module.buffers(), (scale.mean, scale.std), strict=True):
        buffer.copy_(torch.from_numpy(values))
    x[0] = 1e6  # beyond the cut
    given = [None if one is None else torch.from_numpy(one) for one in (mask, here)]
    found = module(torch.from_numpy(x), *given)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), apply(scale, x, layout, valid))


def test_a_model_built_twice_from_its_description_has_the_same_weights(built):
    first, second = built("lf-dnn"), built("lf-dnn")
    assert first.state_dict().keys() == second.state_dict().keys()
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_absent_modalities_and_padded_steps_do_not_change_the_answer(built, batch):
    model = built("mbt")
    inputs, masks, present = batch(model, 5)
    with torch.no_grad():
        expected = model(inputs, masks, present).logits
        for name, x in inputs.items():
            x[~present[name]] = 1e3
            if name in masks:
                x[~masks[name]] = -1e3
        assert torch.equal(model(inputs, masks, present).logits, expected)


def test_numpy_arrays_are_taken(built, batch):
    model = built("mbt")
    inputs, masks, present = batch(model, 5)
    arrays = ({name: x.numpy() for name, x in given.items()} for given in (inputs, masks, present))
    with torch.no_grad():
        assert torch.equal(model(*arrays).logits, model(inputs, masks, present).logits)


def test_inputs_that_do_not_fit_are_refused_in_a_sentence(built, batch):
    model = built("mbt")
    inputs, _, _ = batch(model, 5)
    name = next(iter(inputs))
    for wrong, message in (
        ({}, "inputs must have .*; found nothing"),
        (3, "inputs must have .*; found int"),
        (
            {**inputs, name: inputs[name][..., :1]},
            rf"inputs\['{name}'\] must have layout '.*' with \d+ features; found",
        ),
        ({**inputs, name: [1, 2]}, rf"inputs\['{name}'\] must have layout .*; found \[1, 2\]"),
    ):
        with pytest.raises(UsageError, match=message):
            model(wrong)


def test_a_description_survives_json(described):
    values = described("film")
    about = read_description(values, "here")
    assert Description.model_validate_json(about.model_dump_json(by_alias=True)) == about
    assert about.time("b") == 2
    assert about.time("a") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "concordant.model/9"}, r"here describes no model of Concordant: .*schema"),
        ({"label": "joint"}, r"here describes no model of Concordant: label 'joint' is none of its configuration"),
        ({"layouts": {"a": "btd"}}, r"here describes no model of Concordant: layouts must name a, b, c; found a$"),
        (
            {"shapes": {"a": [5], "b": [13, 4], "c": [0]}},
            r"shapes.a must have a size of 1 or more for each axis of 'td'",
        ),
        (
            {"shapes": {"a": [20, 5], "b": [13, 4], "c": [0]}},
            r"model of Concordant: shapes.c must have .* 'd'; found \(0,\)",
        ),
        ({"classes": []}, r"here describes no model of Concordant: .*classes"),
        ({"pickle": 1}, r"here describes no model of Concordant: .*pickle"),
    ],
)
def test_what_is_wrong_with_a_description_is_said(described, change, message):
    with pytest.raises(DataError, match=message):
        read_description({**described("lf-dnn"), **change}, "here")
