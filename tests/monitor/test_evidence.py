import numpy as np
import pytest
import torch

from concordant import ContextualCalibrator
from concordant.errors import UsageError
from concordant.monitor.evidence import ABSENT, changes, evidence_of, received

SIZES = {"text": 4, "audio": 3, "video": 2}
LAYOUTS = {"text": "bd", "audio": "btd", "video": "bchw"}


def batch(count=6):
    draws = torch.Generator().manual_seed(0)
    return {
        "text": torch.randn(count, 4, generator=draws),
        "audio": torch.randn(count, 5, 3, generator=draws),
        "video": torch.randn(count, 2, 3, 3, generator=draws),
    }


@torch.enable_grad()
def trained():
    torch.manual_seed(0)
    calibrator = ContextualCalibrator(SIZES, seed=0)
    optimizer = torch.optim.Adam(calibrator.parameters(), 0.05)
    for _ in range(5):
        features = batch(32)
        out = calibrator(features)
        (out.auxiliary_loss + out.features["text"].square().mean()).backward()
        optimizer.step()
    return calibrator.eval()


@torch.no_grad()
def evidence(features, **known):
    return evidence_of(trained()(features, **known), features, known.get("masks"))


def test_the_level_is_the_variation_over_positions_or_the_size_of_a_vector():
    features = batch()
    found = evidence(features)
    text = 0.5 * (features["text"].square().mean(1) + 1e-12).log()
    audio = 0.5 * (features["audio"].var(1, correction=0).mean(1) + 1e-12 + 1e-8).log()
    video = 0.5 * (features["video"].flatten(2).var(2, correction=0).mean(1) + 1e-12 + 1e-8).log()
    np.testing.assert_allclose(found.level, torch.stack([text, audio, video], 1), atol=1e-5)


def test_a_constant_sensor_has_the_lowest_level_whatever_its_value():
    features = batch()
    features["audio"][:] = 7.0
    features["text"][0] = 0
    level = evidence(features).level
    np.testing.assert_allclose(level[:, 1], 0.5 * np.log(1e-8 + 1e-12), atol=1e-3)
    np.testing.assert_allclose(level[0, 0], 0.5 * np.log(1e-12), atol=1e-3)
    assert level[1:, 0].min() > -3


def test_agreement_is_the_cosine_with_the_modality_that_agrees_best():
    features = batch()
    with torch.no_grad():
        out = trained()(features)
    cosines = (out.support - out.conflict).numpy()
    expected = [[max(row[m, n] for n in range(3) if n != m) for m in range(3)] for row in cosines]
    np.testing.assert_allclose(evidence(features).agreement, expected, atol=1e-6)


def test_what_is_absent_has_no_evidence_but_the_lowest_level():
    here = {"audio": torch.tensor([False, *[True] * 5]), "video": torch.tensor([False, *[True] * 5])}
    found = evidence(batch(), present=here)
    assert np.isnan(found.reliability[0, 1:]).all()
    assert np.isnan(found.agreement[0]).all()  # text is alone
    assert (found.level[0, 1:] == ABSENT).all()
    assert np.isnan(found.summaries["audio"][0]).all()
    assert np.isfinite(found.summaries["audio"][1:]).all()
    assert np.isfinite(found.reliability[1:]).all()


def test_a_modality_left_out_of_the_batch_is_absent():
    features = batch()
    del features["video"]
    found = evidence(features)
    assert (found.level[:, 2] == ABSENT).all()
    assert np.isnan(found.summaries["video"]).all()


def test_values_that_are_not_finite_count_as_absent():
    calibrator = ContextualCalibrator(SIZES, seed=0, nonfinite="absent").eval()
    features = batch()
    features["audio"][2, 1, 0] = float("nan")
    with torch.no_grad():
        found = evidence_of(calibrator(features), features)
    assert found.level[2, 1] == ABSENT
    assert (found.level[[0, 1, 3, 4, 5], 1] > ABSENT).all()


def test_padding_has_no_influence():
    features = batch()
    mask = torch.ones(6, 5, dtype=torch.bool)
    mask[:, 3:] = False
    first = evidence(features, masks={"audio": mask})
    features["audio"][:, 3:] = 99.0
    second = evidence(features, masks={"audio": mask})
    np.testing.assert_array_equal(first.level, second.level)
    np.testing.assert_array_equal(first.summaries["audio"], second.summaries["audio"])


def test_the_features_that_a_calibrator_got_are_worked_out_from_those_it_returned():
    features = batch()
    with torch.no_grad():
        out = trained()(features)
    assert not torch.allclose(out.features["text"], features["text"], atol=1e-3)
    for name, x in received(out, {}).items():
        torch.testing.assert_close(x, features[name], atol=1e-5, rtol=1e-5)


def test_time_first_features_are_worked_out_too():
    calibrator = ContextualCalibrator({"a": 3, "b": 2}, layouts="tbd", seed=0).eval()
    torch.nn.init.normal_(calibrator.heads["a"].gate.weight)
    features = {"a": torch.randn(5, 6, 3), "b": torch.randn(4, 6, 2)}
    with torch.no_grad():
        out = calibrator(features)
    assert not torch.equal(out.features["a"], features["a"])
    torch.testing.assert_close(received(out, {"a": "tbd", "b": "tbd"})["a"], features["a"], atol=1e-5, rtol=1e-5)


def test_a_change_is_the_root_mean_square_of_the_difference():
    found = changes(np.array([[3.0, 4.0], [1.0, 1.0], [np.nan, 0.0]]), np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [np.sqrt(12.5), 0, np.nan])


def test_a_layout_that_does_not_fit_is_refused():
    features = batch()
    out = trained()(features)
    with pytest.raises(UsageError, match=r"layouts\['audio'\] must be one of .* with 3 axes, .* found 'bd'"):
        evidence_of(out, features, layouts={"audio": "bd"})


@pytest.mark.parametrize("fill", ["mean", "context"])
@torch.no_grad()
def test_what_a_calibrator_got_is_found_behind_a_filling_one(fill):
    module, features = ContextualCalibrator(SIZES, layouts=LAYOUTS, seed=0, fill=fill), batch(40)
    module(features)  # in training, for the running means
    for head in module.heads.values():
        head.reliability.bias.fill_(-4)
    module.eval()
    for name, x in received(module(features), LAYOUTS).items():
        torch.testing.assert_close(x, features[name], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_tolerance_hides_no_reliability():
    module, features = trained(), batch(40)
    before = evidence_of(module(features), features).reliability
    module.tolerate(float("inf"))
    assert (module(features).reliability == 1).all()
    np.testing.assert_array_equal(evidence_of(module(features), features).reliability, before)
