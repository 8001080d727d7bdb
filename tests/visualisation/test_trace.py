import numpy as np
import pytest
import torch

from concordant import ContextualCalibrator
from concordant.errors import UsageError
from concordant.robustness.own_data import as_split
from concordant.visualisation.trace import trace_calibration


def test_summaries_are_means_over_valid_steps_before_and_after():
    draws = np.random.default_rng(0)
    x = {"v": draws.standard_normal((7, 3)), "s": draws.standard_normal((7, 5, 2))}
    mask = np.arange(5) < draws.integers(1, 6, (7, 1))
    present = {"v": np.arange(7) != 2}
    calibrator = ContextualCalibrator({"v": 3, "s": 2}, seed=0)
    for judge in calibrator.heads.values():
        torch.nn.init.normal_(judge.reliability.weight, std=0.5, generator=torch.Generator().manual_seed(0))
        torch.nn.init.normal_(judge.gate.weight, std=0.5, generator=torch.Generator().manual_seed(1))
    found = trace_calibration(calibrator, as_split(x, np.zeros(7, int), masks={"s": mask}, present=present))
    s = np.stack([x["s"][n, mask[n]].mean(0) for n in range(7)])
    assert found.before["s"] == pytest.approx(s, abs=1e-5)
    scale = found.reliability[:, [1]] * found.gates["s"]
    assert found.after["s"] == pytest.approx(s * scale, abs=1e-5)
    assert not np.allclose(scale[0], 1)
    assert (found.before["v"][2] == 0).all()
    assert found.present[:, 0].tolist() == present["v"].tolist()
    assert found.logits is None
    assert calibrator.training


def test_gates_find_the_dimensions_that_were_planted(planted):
    found = trace_calibration(planted.ours, as_split(planted.test.x, planted.test.labels))
    gates, wrong = found.gates["a"], planted.test.wrong
    others = np.delete(np.arange(gates.shape[1]), planted.wrong)
    fall = gates[~wrong].mean(0) - gates[wrong].mean(0)
    assert (fall[planted.wrong] > 0.2).sum() >= 4  # a dimension in which classes hardly differ is not worth a gate
    assert fall[others].max() < 0.1
    assert found.logits.shape == (800, 4)


def test_data_without_a_modality_of_the_calibrator_are_refused():
    calibrator = ContextualCalibrator({"a": 2, "b": 2})
    with pytest.raises(UsageError, match=r"all modalities of the calibrator; \['b'\] are not among \['a'\]"):
        trace_calibration(calibrator, as_split({"a": np.ones((2, 2))}, [0, 1]))


def test_a_model_without_a_calibration_is_refused():
    with pytest.raises(UsageError, match=r"model must return a Calibration, or an object that has one.*found Tensor"):
        trace_calibration(lambda features: features["a"], as_split({"a": np.ones((2, 2))}, [0, 1]))
