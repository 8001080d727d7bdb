import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concord.fusion.base import FeatureSpec, Fusion, masked_mean
from concord.modalities import LAYOUTS


def mean_by_hand(x, mask, here):
    rows = []
    for row, one in enumerate(x.double().numpy()):
        steps = [one[t] for t in range(len(one)) if mask is None or mask[row, t]]
        counts = steps and (here is None or here[row])
        rows.append(np.mean(steps, 0) if counts else np.zeros(x.shape[2]))
    return np.stack(rows)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.booleans(), st.booleans(), st.integers(0, 99))
def test_masked_mean_equals_numpy_whatever_else_the_tensor_holds(batch, length, width, masked, absent, seed):
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, length, width, generator=draws)
    mask = torch.rand(batch, length, generator=draws) < 0.6 if masked else None
    here = torch.rand(batch, generator=draws) < 0.6 if absent else None
    expected = mean_by_hand(x, mask, here)
    if mask is not None:
        x = torch.where(mask.unsqueeze(2), x, torch.nan)
    if here is not None:
        x = torch.where(here.view(-1, 1, 1), x, torch.nan)
    np.testing.assert_allclose(masked_mean(x, mask, here), expected, atol=1e-6)


def test_the_base_has_sorted_names_and_no_forward_pass():
    specs = {"b": FeatureSpec(2, LAYOUTS["bd"]), "a": FeatureSpec(3, LAYOUTS["bdt"])}
    fusion = Fusion(specs, classes=4)
    assert fusion.names == ("a", "b")
    assert fusion.specs == specs
    assert fusion.classes == 4
    x = torch.randn(5, 3, 6)
    torch.testing.assert_close(fusion.positions("a", {"a": x}), x.transpose(1, 2))
    with pytest.raises(NotImplementedError):
        fusion({"a": x}, {}, {})
