import re

import pytest
import torch

from concord.calibration.finite import require_finite
from concord.errors import ConcordError

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
    with pytest.raises(ConcordError, match=re.escape(message)):
        require_finite(finite, present, NAMES)


def test_compiled_check_raises_the_same_error():
    def check(x, present):
        return require_finite(present & x.isfinite(), present, NAMES)

    compiled = torch.compile(check, fullgraph=True, backend="aot_eager")
    x, present = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    assert torch.equal(compiled(x, present), present)
    x[1, 1] = float("nan")
    with pytest.raises(ConcordError, match=re.escape("'audio' (1 of 2)")):
        compiled(x, present)
    torch.compiler.reset()


def test_operator_keeps_to_pytorchs_rules():
    present = torch.ones(2, 3, dtype=torch.bool)
    torch.library.opcheck(torch.ops.concord.require_finite.default, (present, present.clone(), "a.b.c"))


def test_under_vmap_all_are_checked_as_one_batch():
    present = torch.tensor([[True, False], [True, True]])
    finite = torch.stack([present, present, present])

    def check(one, here):
        return require_finite(one, here, ("text", "audio"))

    assert torch.equal(torch.vmap(check, in_dims=(0, None))(finite, present), finite)
    finite = finite.clone()
    finite[1, 1, 1] = False
    with pytest.raises(ConcordError, match=r"modality \(instances\): 'audio' \(1 of 6\)"):
        torch.vmap(check, in_dims=(0, None))(finite, present)
