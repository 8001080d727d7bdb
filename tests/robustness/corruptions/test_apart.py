import dataclasses

import pytest

from concordant.calibration.perturbation import Perturbation
from concordant.robustness.corruptions import KINDS
from concordant.robustness.corruptions.apart import outside_training


@pytest.mark.parametrize("name", KINDS)
def test_no_test_meets_a_strength_that_training_uses(name):
    assert outside_training(KINDS[name], Perturbation()) == []


def test_every_severity_inside_a_range_is_named():
    settings = Perturbation(strength=((0.0, 0.4), (2.0, 3.0)))
    unit = "standard deviations of the feature on training data"
    assert outside_training(KINDS["gaussian-noise"], settings) == [
        f"severity 1 of gaussian-noise, 0.25 {unit}, lies inside the training perturbation's "
        "strength range from 0 to 0.4.",
        f"severity 4 of gaussian-noise, 3 {unit}, lies inside the training perturbation's strength range from 2 to 3.",
    ]
    assert outside_training(KINDS["dimension-replacement"], Perturbation(share=((0.5, 0.6),))) == [
        "severity 4 of dimension-replacement, 0.55 share of the features, lies inside the training perturbation's "
        "share range from 0.5 to 0.6."
    ]


def test_a_kind_that_training_leaves_out_cannot_be_met():
    settings = Perturbation(strength=((0.0, 9.0),), share=((0.0, 1.0),), kinds=("swap",))
    assert outside_training(KINDS["gaussian-noise"], settings) == []
    assert outside_training(KINDS["dimension-replacement"], settings) == []


def test_kinds_that_training_has_not_seen_are_apart_whatever_its_ranges():
    settings = Perturbation(strength=((0.0, 9.0),), share=((0.0, 1.0),))
    unseen = dataclasses.replace(KINDS["gaussian-noise"], seen=False)
    assert outside_training(unseen, settings) == []
    assert len(outside_training(KINDS["gaussian-noise"], settings)) == 5
