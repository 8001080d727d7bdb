import pytest
import torch

from concordant.calibration.base import Calibrator
from concordant.deploy.graph import Graph, changed, complete, entries, example, trace
from concordant.errors import UsageError
from concordant.fusion import FUSIONS
from concordant.rivals import CALIBRATORS

# Fusions that choose by the number of steps, and so are exported with a fixed one.
FIXED = ("ef-lstm", "mfn")


def agrees(module, model, given, tolerance=1e-5):
    with torch.no_grad():
        found, expected = module(*given), Graph(model)(*given)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def sequences(built):
    """A model of sequences, and its graph."""
    model = built("lf-dnn")
    return model, trace(model).module()


def test_a_graph_answers_as_the_model_for_any_batch_and_any_number_of_steps(sequences, batch):
    model, module = sequences
    for count, share in ((4, 1.0), (1, 1.0), (7, 0.4), (2, 0.05), (3, 2.0)):
        agrees(module, model, complete(model.description, *batch(model, count, seed=count, share=share)))


@pytest.mark.slow
@pytest.mark.parametrize("fusion", [name for name in FUSIONS if name not in FIXED])
def test_every_other_fusion_has_a_graph_of_any_number_of_steps(fusion, built, batch):
    model = built(fusion)
    module = trace(model).module()
    for count, share in ((4, 1.0), (1, 1.0), (7, 0.4), (3, 2.0)):
        agrees(module, model, complete(model.description, *batch(model, count, seed=count, share=share)))


@pytest.mark.slow
@pytest.mark.parametrize("fusion", FIXED)
def test_these_fusions_have_a_graph_of_a_fixed_number_of_steps_alone(fusion, built, batch):
    model = built(fusion)
    with pytest.raises(UsageError, match="give --fixed-time"):
        trace(model)
    module = trace(model, fixed_time=True).module()
    for count in (1, 4):
        agrees(module, model, complete(model.description, *batch(model, count, seed=count)))


def test_a_fusion_that_needs_a_fixed_number_of_steps_says_so_and_is_exported_with_one(built, batch):
    model = built("ef-lstm", "none", modalities={"a": ("btd", (4, 5)), "b": ("bd", (3,))})
    with pytest.raises(UsageError, match=r"none before ef-lstm cannot be exported for any number of steps; give"):
        trace(model)
    module = trace(model, fixed_time=True).module()
    for count in (1, 4):
        agrees(module, model, complete(model.description, *batch(model, count)))


# The others take minutes together.
@pytest.mark.parametrize(
    "calibrator",
    [
        name if name in ("context", "evidential", "attention") else pytest.param(name, marks=pytest.mark.slow)
        for name in CALIBRATORS
    ],
)
def test_every_calibrator_has_a_graph(calibrator, built, batch):
    model = built("lf-dnn", calibrator, modalities={"a": ("bd", (4,)), "b": ("btd", (8, 3))})
    module = trace(model).module()
    agrees(module, model, complete(model.description, *batch(model, 5)))


def test_what_is_not_finite_is_absent_to_a_graph(sequences, batch):
    model, module = sequences
    given = complete(model.description, *batch(model, 4))
    for here in given[2].values():
        here.fill_(True)
    given[0]["c"][1] = torch.nan
    given[0]["a"][2, 0, 0] = torch.inf
    given[1]["a"][2, 0] = True
    logits, reliability = module(*given)
    given[2]["c"][1] = False
    given[2]["a"][2] = True
    given[0]["c"][1] = 0.0
    assert reliability[1, 2] == 0
    assert bool(logits.isfinite().all())
    with torch.no_grad():
        expected, _ = Graph(model)(*given)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def test_the_inputs_are_named_and_their_free_axes_too(built):
    about = built("lf-dnn").description
    found = {entry.name: (entry.dtype, entry.shape) for entry in entries(about, fixed_time=False)}
    assert found == {
        "inputs_a": ("float32", ("batch", "a_steps", 5)),
        "inputs_b": ("float32", ("batch", "b_steps", 4)),
        "inputs_c": ("float32", ("batch", 6)),
        "masks_a": ("bool", ("batch", "a_steps")),
        "masks_b": ("bool", ("batch", "b_steps")),
        "present_a": ("bool", ("batch",)),
        "present_b": ("bool", ("batch",)),
        "present_c": ("bool", ("batch",)),
    }
    assert entries(about, fixed_time=True)[3].shape == ("batch", 20)


def test_what_is_not_given_is_complete(built):
    about = built("lf-dnn").description
    inputs, masks, present = example(about)
    assert set(masks) == {"a", "b"}
    assert all(bool(mask.all()) for mask in (*masks.values(), *present.values()))
    some = changed((inputs, masks, present), lambda kind, name, x: x[:2])
    assert len(complete(about, some[0], {}, {"a": torch.tensor([True, False])})[2]["a"]) == 2


def test_the_guard_for_exported_graphs_leaves_eager_checks_alone(built, batch):
    model = built("lf-dnn")
    inputs, masks, present = batch(model, 3)
    present["c"].fill_(True)
    inputs["c"][0] = torch.nan
    assert isinstance(model.model.calibrator, Calibrator)
    with pytest.raises(Exception, match="features hold NaN or infinity in modality"):
        model(inputs, masks, present)
