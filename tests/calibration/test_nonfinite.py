import re

import pytest
import torch

from concordant.calibration.nonfinite import exporting, finite_where_present, require_finite
from concordant.errors import ConcordantError
from concordant.modalities import gather, values_are_known
from concordant.rivals import NoCalibrator

NAMES = ("text", "audio", "vision")


def test_presence_comes_back_when_all_is_finite():
    present = torch.rand(5, 3) < 0.5
    assert torch.equal(require_finite(present.clone(), present, NAMES), present)


def test_error_names_modalities_counts_and_what_to_do():
    present = torch.tensor([[True, True, False], [True, False, True]])
    finite = torch.tensor([[False, True, False], [False, False, False]])
    message = (
        "features hold NaN or infinity in modality (instances): 'text' (2 of 2), 'vision' (1 of 2); clean them, "
        "mark them in `present` or `masks` as not to be counted, or build the calibrator with nonfinite='absent'"
    )
    with pytest.raises(ConcordantError, match=re.escape(message)):
        require_finite(finite, present, NAMES)


@pytest.mark.compile
def test_compiled_check_raises_the_same_error():
    def check(x, present):
        return require_finite(present & x.isfinite(), present, NAMES)

    compiled = torch.compile(check, fullgraph=True, backend="aot_eager")
    x, present = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    assert torch.equal(compiled(x, present), present)
    x[1, 1] = float("nan")
    with pytest.raises(ConcordantError, match=re.escape("'audio' (1 of 2)")):
        compiled(x, present)
    torch.compiler.reset()


def test_operator_keeps_to_pytorchs_rules():
    present = torch.ones(2, 3, dtype=torch.bool)
    torch.library.opcheck(torch.ops.concordant.require_finite.default, (present, present.clone(), "a.b.c"))


def test_the_check_of_many_runs_at_once_counts_the_instances_of_all():
    x, present = torch.zeros(3, 2, 3), torch.ones(2, 3, dtype=torch.bool)

    def check(x):
        return require_finite(present & x.isfinite(), present, NAMES)

    assert torch.equal(torch.func.vmap(check)(x), present.expand(3, 2, 3))
    x[2, 1, 1] = float("nan")
    with pytest.raises(ConcordantError, match=re.escape("'audio' (1 of 6)")):
        torch.func.vmap(check)(x)


def batch_of(**given):
    """Return a float16 vector whose sum float16 cannot hold, and a masked sequence."""
    features = {"a": torch.full((4, 9), 60000.0, dtype=torch.float16), "b": torch.ones(4, 3, 2)}
    mask = torch.tensor([[True, True, False]] * 4)
    return gather(features, sizes={"a": 9, "b": 2}, layouts={"a": "bd", "b": "btd"}, masks={"b": mask}, **given)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("vmapped", [False, True])
def test_what_is_not_finite_is_found_where_it_counts(bad, vmapped):
    def find(x):
        batch = batch_of(present={"a": torch.arange(4) != 3})
        batch.features["b"] = x
        return finite_where_present(batch)

    look = torch.func.vmap(lambda x: find(x[0])[None]) if vmapped else lambda x: find(x[0, 0])[None, None]
    x = torch.ones(1, 1, 4, 3, 2)
    everything = torch.tensor([[True, True], [True, True], [True, True], [False, True]])
    assert torch.equal(look(x)[0, 0], everything)
    x[0, 0, 1, 2] = bad  # padding
    assert torch.equal(look(x)[0, 0], everything)
    x[0, 0, 1, 0, 1] = bad
    everything[1, 1] = False
    assert torch.equal(look(x)[0, 0], everything)


def test_huge_numbers_are_no_error():
    calibrate = NoCalibrator({"a": 3, "b": 2}).eval()
    features = {"a": torch.full((4, 3), 3e38), "b": torch.ones(4, 2)}
    assert features["a"].sum().isinf()
    assert calibrate(features).present.all()


@pytest.mark.compile
def test_values_are_known_in_eager_code_only():
    found = []

    def note(x):
        found.append(values_are_known())
        return x.sum()

    note(torch.ones(2))
    torch.func.vmap(note)(torch.ones(3, 2))
    torch.func.grad(note)(torch.ones(2))
    assert found == [True, False, False]
    assert torch.compile(lambda x: x + values_are_known(), backend="eager")(torch.zeros(1)).item() == 0
    assert values_are_known()


@pytest.mark.compile
def test_compiled_graphs_are_not_exported_ones():
    class Model(torch.nn.Module):
        def forward(self, x):
            return x + 1 if exporting() else x

    x = torch.zeros(2)
    assert torch.equal(torch.compile(Model(), backend="eager", fullgraph=True)(x), x)
    for strict in (False, True):
        assert torch.equal(torch.export.export(Model(), (x,), strict=strict).module()(x), x + 1)
    torch.compiler.reset()
