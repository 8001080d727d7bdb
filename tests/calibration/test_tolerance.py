import copy

import pytest
import torch

from concordant import ContextualCalibrator, UsageError
from concordant.calibration.modulation import reliability_from_shift


@pytest.fixture
def calibrate():
    """A calibrator that distrusts every other instance."""
    calibrator = ContextualCalibrator({"a": 4, "b": 3}, layouts="bd", seed=0)
    with torch.no_grad():
        for judge in calibrator.heads.values():
            judge.reliability.weight.normal_(0, 3, generator=torch.Generator().manual_seed(1))
    return calibrator.eval()


def features():
    draws = torch.Generator().manual_seed(0)
    return {"a": torch.randn(64, 4, generator=draws), "b": torch.randn(64, 3, generator=draws)}


def test_within_the_tolerance_nothing_changes_and_beyond_it_less(calibrate):
    before = calibrate(features())
    calibrate.tolerate([1.0, 0.5])
    after = calibrate(features())
    shift = before.logits - 3
    expected = reliability_from_shift((shift + torch.tensor([1.0, 0.5])).clamp(max=0))
    torch.testing.assert_close(after.reliability, expected)
    assert torch.equal(after.logits, before.logits)  # for detection
    for column, (name, x) in enumerate(features().items()):
        intact = shift[:, column] > -0.5 if name == "b" else shift[:, column] > -1
        assert 0 < intact.sum() < 64
        assert torch.equal(after.gates[name], before.gates[name])
        kept = after.reliability[:, column] == 1
        assert torch.equal(kept, intact)
        assert torch.equal(after.features[name][kept], (x * after.gates[name])[kept])


def test_training_does_not_depend_on_it(calibrate):
    calibrate.train()
    outs = []
    for margin in (None, 3.0):
        calibrate.tolerate(margin)
        torch.manual_seed(3)  # of dropout
        outs.append(copy.deepcopy(calibrate)(features(), generator=torch.Generator().manual_seed(2)).reliability)
    assert torch.equal(*outs)
    assert (outs[0] > 1).any()


def test_the_state_dictionary_says_whether_there_is_one(calibrate):
    assert "tolerance" not in calibrate.state_dict()
    plain = {name: value.clone() for name, value in calibrate.state_dict().items()}
    calibrate.tolerate(2)
    other = ContextualCalibrator({"a": 4, "b": 3}, layouts="bd").eval()
    other.load_state_dict(calibrate.state_dict())
    assert other.tolerance.tolist() == [2.0, 2.0]
    assert torch.equal(other(features()).reliability, calibrate(features()).reliability)
    other.load_state_dict(plain)
    assert other.tolerance is None
    calibrate.tolerate(None)
    assert torch.equal(other(features()).reliability, calibrate(features()).reliability)


@pytest.mark.parametrize("margin", [-1.0, [1.0], [1.0, -0.1], float("inf"), float("nan")])
def test_a_wrong_margin_is_refused(calibrate, margin):
    with pytest.raises(UsageError, match="margin must be a number of 0 or more, or one for each of a, b; found"):
        calibrate.tolerate(margin)
