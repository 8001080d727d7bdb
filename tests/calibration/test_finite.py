import re

import pytest
import torch

from concordant.calibration.finite import require_finite, surely_finite
from concordant.errors import ConcordantError
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
        "say with `present` or `masks` where they do not count, or build the calibrator with nonfinite='absent'"
    )
    with pytest.raises(ConcordantError, match=re.escape(message)):
        require_finite(finite, present, NAMES)


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


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_sum_tells_that_all_is_finite(bad):
    x = torch.zeros(4, 5)
    assert surely_finite(x)
    x[2, 3] = bad
    assert not surely_finite(x)
    assert surely_finite(torch.full((9,), 60000.0, dtype=torch.float16))  # whose sum float16 cannot hold


def test_huge_numbers_are_no_error():
    calibrate = NoCalibrator({"a": 3, "b": 2}).eval()
    features = {"a": torch.full((4, 3), 3e38), "b": torch.ones(4, 2)}
    assert not surely_finite(features["a"])
    assert calibrate(features).present.all()
