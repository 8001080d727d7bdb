import numpy as np
import pytest

from concordant.visualisation.explain import Usual, explain, most_distrusted
from concordant.visualisation.trace import Trace

NAMES = ("a", "b")


def observed(reliability, *, present=None, gates=None, support=0.0, conflict=0.0):
    reliability = np.asarray(reliability, np.float32)
    count = len(reliability)
    here = np.ones((count, 2), bool) if present is None else np.asarray(present)
    pairs = 1 - np.eye(2, dtype=np.float32)
    return Trace(
        names=NAMES,
        before={},
        after={},
        gates=gates or {name: np.ones((count, 3), np.float32) for name in NAMES},
        reliability=reliability,
        present=here,
        support=np.tile(support * pairs, (count, 1, 1)),
        conflict=np.tile(conflict * pairs, (count, 1, 1)),
        logits=None,
    )


def test_a_verdict_says_how_far_from_the_usual_and_who_says_so():
    usual = Usual.of(observed([[1.0, 0.8], [0.8, 0.8]], gates={"a": np.full((2, 3), 1.2), "b": np.ones((2, 3))}))
    gates = {"a": np.array([[1.2, 0.6, 1.4]]), "b": np.ones((1, 3))}
    first, second = explain(observed([[0.5, 0.8]], gates=gates, conflict=0.7), 0, usual)
    assert first.modality == "a"
    assert first.usual == pytest.approx(0.9)
    assert first.z == pytest.approx((0.5 - 0.9) / 0.1, rel=1e-4)
    assert first.contradicted_by == [("b", pytest.approx(0.7))]
    assert first.supported_by == []
    assert [(number, round(gate, 3)) for number, gate, _ in first.down] == [(1, 0.6)]
    assert [(number, round(was, 3)) for number, _, was in first.up] == [(2, 1.2)]
    assert second.down == second.up == []
    assert second.z == 0.0


def test_the_farthest_below_the_usual_come_first_and_lone_modalities_are_not_judged():
    usual = Usual.of(observed([[1.0, 1.0], [1.0, 0.9]]))
    present = np.array([[True, True], [True, False], [True, True], [False, True]])
    found = most_distrusted(observed([[0.9, 0.2], [0.0, 0.0], [0.5, 1.0], [0.0, 0.1]], present=present), usual)
    assert [(row, column) for row, column, _ in found] == [(0, 1), (2, 0), (0, 0)]
    assert all(z < 0 for _, _, z in found)
    assert len(most_distrusted(observed([[0.9, 0.2]]), usual, count=1)) == 1


def test_an_absent_modality_is_said_to_be_absent():
    usual = Usual.of(observed([[1.0, 1.0], [0.9, 0.9]]))
    one = explain(observed([[0.0, 1.0]], present=[[False, True]]), 0, usual)[0]
    assert not one.present
    assert one.z == 0.0
