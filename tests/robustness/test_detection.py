import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from concordant.errors import UsageError
from concordant.robustness.answers import Answer
from concordant.robustness.detection import detection, reliability_diagram, standardise

# Two modalities that are held in different esteem on clean data: means 1 and 0.5, deviations 0.1 and 0.2.
REFERENCE = np.array([[0.9, 0.3], [1.1, 0.7]])
HIT = np.array([[True, False], [False, True], [False, False]])


def refused(text):
    return pytest.raises(UsageError, match=re.escape(text))


def an_answer(reliability, perturbed, present=None, clean=None):
    present = np.ones_like(perturbed) if present is None else present
    return Answer(np.zeros(len(perturbed)), None, reliability, present, perturbed, clean)


def areas(after, before, reference=REFERENCE, corrupted=HIT, present=None, reference_present=None):
    nothing = np.zeros_like(REFERENCE if reference is None else reference, np.bool_)
    return detection(
        an_answer(after, corrupted, present),
        an_answer(before, np.zeros_like(corrupted), present),
        an_answer(reference, nothing, reference_present),
    )


def test_standardise_by_hand():
    z = standardise(np.array([[1.0, 0.5], [1.2, 0.1]]), REFERENCE)
    np.testing.assert_allclose(z, [[0, 0], [2, -2]], atol=1e-12)


def test_standardise_uses_present_references_only():
    reference = np.array([[0.9, 0.3], [1.1, 0.7], [50.0, np.nan]])
    here = np.array([[True, True], [True, True], [False, False]])
    values = np.array([[1.3, 0.2]])
    found = standardise(values, reference, reference_present=here)
    np.testing.assert_allclose(found, standardise(values, REFERENCE))


def test_constant_reliability_gives_exactly_zero():
    reference = np.full((7, 2), 0.1)
    assert (standardise(np.full((3, 2), 0.1), reference) == 0).all()


def test_tiny_spread_is_bounded_below():
    reference = np.full((5, 1), 1.0)
    assert standardise(np.array([[1.0 - 1e-6]]), reference) == pytest.approx(-1, rel=1e-6)


def test_modality_without_reference_gives_zero():
    here = np.array([[True, False], [True, False]])
    z = standardise(np.array([[1.0, 0.9], [1.2, 0.1]]), REFERENCE, reference_present=here)
    assert (z[:, 1] == 0).all()


def test_which_finds_the_drop_though_the_modalities_differ():
    # Raw, the clean second modality (0.5) looks worse than the corrupted first one (0.7).
    values = np.array([[0.7, 0.5], [1.0, -0.1], [0.0, 0.0]])
    assert areas(values, values)["which"] == 1
    assert areas(2 - values, values, 2 - REFERENCE)["which"] == 0


def test_the_areas_of_a_constant_reliability_are_one_half():
    ones = np.ones((3, 2))
    assert areas(ones, ones, np.ones((4, 2))) == {"which": 0.5, "whether": 0.5}


def by_pairs(positive, negative):
    """Return the share of pairs in which the positive scores higher, ties one half."""
    wins = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    return float(np.mean(wins)) if wins else None


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 999))
def test_both_areas_equal_a_loop(instances, modalities, seed):
    draws = np.random.default_rng(seed)
    values, before = draws.integers(0, 5, (2, instances, modalities)) / 4  # ties occur
    reference = draws.random((6, modalities))
    here = draws.random((instances, modalities)) < 0.8
    hit = np.zeros((instances, modalities), dtype=bool)
    for row in range(instances):
        if draws.random() < 0.7 and here[row].any():
            hit[row, draws.choice(np.flatnonzero(here[row]))] = True
    values[~here] = np.nan
    z, z_before = ((x - reference.mean(0)) / reference.std(0) for x in (values, before))
    rows = [n for n in range(instances) if hit[n].any()]
    cells = [(n, m) for n in rows for m in range(modalities) if here[n, m]]
    # Rounded, so that ties of equal values are ties here too.
    positive = [round(-z[n, m], 9) for n, m in cells if hit[n, m]]
    negative = [round(-z[n, m], 9) for n, m in cells if not hit[n, m]]
    found = areas(values, before, reference, hit, here)
    assert found["which"] == (None if not negative else pytest.approx(by_pairs(positive, negative)))
    positive = [round(-z[n][here[n]].min(), 9) for n in rows]
    negative = [round(-z_before[n][here[n]].min(), 9) for n in rows]
    assert found["whether"] == (None if not rows else pytest.approx(by_pairs(positive, negative)))


def test_which_equals_scikit_learn():
    draws = np.random.default_rng(0)
    values, reference = draws.normal(size=(50, 3)), draws.normal(size=(40, 3))
    hit = np.eye(3, dtype=bool)[draws.integers(3, size=50)]
    values[hit] -= 1
    z = (values - reference.mean(0)) / reference.std(0)
    expected = roc_auc_score(hit.ravel(), -z.ravel())
    assert areas(values, values, reference, hit)["which"] == pytest.approx(expected)
    assert expected > 0.6


def test_whether_compares_an_instance_with_itself_before():
    after = np.array([[0.7, 0.5], [1.0, 0.1], [-9.0, -9.0]])
    before = np.array([[1.0, 0.5], [1.0, 0.5], [9.0, 9.0]])
    assert areas(after, before)["whether"] == 1
    assert areas(before, after)["whether"] == 0


def test_an_area_without_two_classes_is_none():
    values, nothing, none = np.ones((3, 2)), np.zeros((3, 2), dtype=bool), {"which": None, "whether": None}
    assert areas(None, values) == areas(values, None) == areas(values, values, None) == none
    assert areas(values, values, corrupted=nothing) == none
    assert areas(values, values, present=HIT)["which"] is None
    assert areas(values, values, present=~HIT) == none  # an absent modality is not corrupted


@pytest.mark.parametrize(
    ("given_values", "message"),
    [
        (
            {"after": np.ones(3)},
            "reliability must have shape (instances, modalities), neither of them 0, got (3,)",
        ),
        (
            {"after": np.ones((0, 2)), "corrupted": np.zeros((0, 2), dtype=bool)},
            "reliability must have shape (instances, modalities), neither of them 0, got (0, 2)",
        ),
        (
            {"after": np.ones((3, 1))},
            "reliability must have one value per instance and modality, (3, 2), got (3, 1)",
        ),
        (
            {"before": np.ones((2, 2))},
            "clean reliability must have one value per instance and modality, (3, 2), got (2, 2)",
        ),
        (
            {"reference_present": np.ones((1, 2), dtype=bool)},
            "reference must have one value per instance and modality, (1, 2), got (2, 2)",
        ),
        ({"reference": np.ones((4, 3))}, "values must have shape (N, 3), as reference has, got (3, 2)"),
        (
            {"after": np.array([[1, 1], [1, np.nan], [1, 1]])},
            "reliability must be finite where a modality is present, but instance 1, modality 1 is nan",
        ),
        (
            {"before": np.full((3, 2), np.nan)},
            "clean reliability must be finite where a modality is present, but instance 0, modality 0 is nan",
        ),
        (
            {"reference": np.array([[1, 1], [np.inf, 1]])},
            "reference must be finite where a modality is present, but instance 1, modality 0 is inf",
        ),
    ],
)
def test_reliabilities_that_cannot_be_compared_are_refused(given_values, message):
    with refused(message):
        areas(**{"after": np.ones((3, 2)), "before": np.ones((3, 2)), **given_values})


def answer(clean, perturbed, present=None):
    return an_answer(np.zeros(clean.shape), perturbed, present, clean)


def test_a_calibrated_score_lies_on_the_diagonal():
    draws = np.random.default_rng(0)
    pairs = []
    for _ in range(20):
        p = draws.random((500, 2))
        perturbed = draws.random((500, 2)) > p
        before = np.ones((500, 2))  # a score of 1 for clean instances is right throughout
        pairs.append((answer(p, perturbed), answer(before, np.zeros_like(perturbed))))
    found = reliability_diagram(pairs)
    cases = sum(2 * 2 * int(one.perturbed.any(1).sum()) for one, _ in pairs)
    assert sum(found["count"]) == cases
    assert found["error"] < 0.15


def test_bins_are_counted_as_a_loop_does():
    p = np.array([[0.05, 0.95], [0.1, 1.2], [0.55, -0.3]])
    perturbed = np.array([[True, False], [False, True], [True, False]])
    present = np.array([[True, True], [True, True], [True, False]])
    before = answer(np.full((3, 2), 0.72), np.zeros_like(perturbed), present)
    found = reliability_diagram([(answer(p, perturbed, present), before)])
    assert found["edges"] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert found["count"] == [2, 0, 0, 0, 0, 1, 0, 5, 0, 2]
    assert found["predicted"][0] == pytest.approx(0.075)
    assert found["intact"][0] == 0.5
    assert found["predicted"][9] == pytest.approx(0.975)  # a value above 1 counts as 1
    assert found["intact"][9] == 0.5
    assert found["intact"][7] == 1.0
    assert found["intact"][1] is None
    gaps = abs(2 * 0.075 - 1) + 0.55 + 5 * 0.28 + abs(2 * 0.975 - 1)
    assert found["error"] == pytest.approx(gaps / 10)


def test_the_reliability_stands_in_for_a_probability_that_is_not_there():
    perturbed = np.array([[True, False]])
    plain = Answer(np.zeros(1), None, np.array([[0.15, 0.85]]), np.ones((1, 2), bool), perturbed)
    assert reliability_diagram([(plain, plain)])["count"] == [0, 2, 0, 0, 0, 0, 0, 0, 2, 0]


def test_an_empty_diagram_has_no_error():
    assert reliability_diagram([])["error"] == 0.0
