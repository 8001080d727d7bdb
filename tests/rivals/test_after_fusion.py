import pytest
import torch

from concordant.benchmarks.catalogue import prepare
from concordant.calibration.calibrator import ContextualCalibrator
from concordant.errors import UsageError
from concordant.rivals import AfterFusion
from concordant.training.batches import to_tensors
from concordant.training.config import Variant, make_config
from concordant.training.model import build_model

SIZES = {"a": 6, "b": 4, "c": 5}


def moved(cls, **options):
    module = cls(SIZES, layouts="bd", seed=0, **options)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if ".gate." not in name:
                weight += 0.3 * torch.randn(weight.shape, generator=draws)
    return module.eval()


def features():
    draws = torch.Generator().manual_seed(0)
    return {name: torch.randn(7, size, generator=draws) for name, size in SIZES.items()}


def test_features_pass_and_the_modulation_is_the_contextual_calibrator_s():
    given = features()
    after, before = moved(AfterFusion, fused=8)(given), moved(ContextualCalibrator)(given)
    for name, x in given.items():
        assert torch.equal(after.features[name], x)
        assert after.gates[name].shape == x.shape
    torch.testing.assert_close(after.reliability, before.reliability)
    # Gates are 1 as long as they are not trained, so that the scale is the mean reliability.
    torch.testing.assert_close(after.fused, before.reliability.mean(1, keepdim=True).expand(-1, 8))


def test_absent_modalities_do_not_enter_the_scale():
    here = {"c": torch.arange(7) > 2}
    out = moved(AfterFusion, fused=3)(features(), present=here)
    torch.testing.assert_close(out.fused[:3, 0], out.reliability[:3, :2].mean(1))
    torch.testing.assert_close(out.fused[3:, 0], out.reliability[3:].mean(1))


def test_an_untrained_one_changes_no_logit_and_a_trained_one_does():
    task = prepare("digits", seed=0)
    config = make_config("digits", fusion="lf-dnn", calibrators=("none", "after-fusion"), recipe={"width": 8})
    batch = to_tensors(task.valid).take(slice(0, 16))
    plain, ours = (build_model(task, config, Variant(name, True), 0).eval() for name in ("none", "after-fusion"))
    assert torch.equal(plain(batch.inputs).logits, ours(batch.inputs).logits)
    with torch.no_grad():
        for weight in ours.calibrator.parameters():
            weight += 0.3
    assert not torch.allclose(plain(batch.inputs).logits, ours(batch.inputs).logits)


def test_wrong_arguments_are_refused():
    with pytest.raises(UsageError, match="fused must be 1 or more; found 0"):
        AfterFusion(SIZES, fused=0)
    with pytest.raises(UsageError, match=r"after-fusion stands before the head of .*, and sum has no single one"):
        make_config("digits", fusion="sum", calibrators=("after-fusion",))
