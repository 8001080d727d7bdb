import numpy as np
import pytest

from concordant.robustness.diagram import Diagram


def test_a_calibrated_score_lies_on_the_diagonal():
    draws = np.random.default_rng(0)
    diagram = Diagram()
    for _ in range(20):
        p = draws.random((500, 2))
        hit = draws.random((500, 2)) > p
        diagram.add(p, hit, np.ones_like(hit))
    found = diagram.record()
    assert sum(found["count"]) == 20 * 1000
    assert np.abs(np.array(found["predicted"]) - np.array(found["intact"])).max() < 0.03
    assert found["error"] < 0.02


def test_bins_are_counted_as_a_loop_does():
    p = np.array([[0.05, 0.95], [0.1, 1.2], [0.55, -0.3]])
    hit = np.array([[True, False], [True, True], [False, False]])
    present = np.array([[True, True], [True, True], [True, False]])
    diagram = Diagram()
    diagram.add(p, hit, present)
    found = diagram.record()
    assert found["edges"] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert found["count"] == [2, 0, 0, 0, 0, 1, 0, 0, 0, 2]
    assert found["predicted"][0] == pytest.approx(0.075)
    assert found["intact"][0] == 0.0
    assert found["predicted"][9] == pytest.approx(0.975)  # what is beyond 1 counts as 1
    assert found["intact"][9] == 0.5
    assert found["intact"][1] is None
    assert found["error"] == pytest.approx((2 * 0.075 + 0.45 + 2 * 0.475) / 5)


def test_an_empty_diagram_has_no_error():
    assert Diagram().record()["error"] == 0.0
