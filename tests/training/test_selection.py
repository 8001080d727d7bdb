"""Which state is kept: the latest within one standard error of the best so far."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from concordant.training.selection import CheckpointSelector, snapshot

scores = st.floats(-10, 10)
offers = st.lists(st.tuples(scores, st.floats(0, 3)), min_size=1, max_size=12)


def offer(selector, model, given, done=0):
    for step, (score, error) in enumerate(given, done + 1):
        nn.init.constant_(model.weight, step)
        selector.offer(score, error, step, lambda: snapshot(model))


def offered(given, **options):
    selector = CheckpointSelector(**options)
    offer(selector, nn.Linear(1, 1, bias=False), given)
    return selector


@given(offers)
def test_the_kept_state_is_the_latest_near_the_best_that_there_was_then(given):
    kept = 0
    for step in range(1, len(given) + 1):
        score, error = max(given[:step], key=lambda one: one[0])  # the first of several
        if given[step - 1][0] >= score - error:
            kept = step
    best = offered(given)
    assert best.step == kept
    assert best.stale == len(given) - kept
    assert best.state["weight"].item() == kept  # and not the model's, which went on
    assert best.best == max(score for score, _ in given)


@given(offers, offers)
def test_a_run_that_goes_on_keeps_what_it_would_have_kept(before, after):
    whole, resumed = offered([*before, *after]), CheckpointSelector()
    model = nn.Linear(1, 1, bias=False)
    resumed.load_state_dict(offered(before).state_dict(), model.state_dict())
    offer(resumed, model, after, len(before))
    found, expected = resumed.state_dict(), whole.state_dict()
    assert torch.equal(found.pop("state")["weight"], expected.pop("state")["weight"])
    assert found == expected


def test_scores_that_are_no_numbers_or_endless_are_not_kept_over_any_other():
    best = offered([(0.5, 0.1), (math.nan, 0.0), (-math.inf, 0.0), (0.4, math.nan)])
    assert (best.best, best.error, best.step, best.stale) == (0.5, 0.1, 4, 0)
    assert offered([(-math.inf, 0.0), (-2.0, 0.5), (-2.4, 9.0)]).step == 3
    assert (offered([(math.nan, 0.0)]).step, offered([(math.nan, 0.0)]).stale) == (0, 1)


def test_only_a_kept_state_is_copied_and_patience_ends_training():
    selector, copies, exhausted = CheckpointSelector(patience=2), iter(range(10)), []
    for step, score in enumerate([0.5, 0.9, 0.89, 0.8, 0.88, 0.1, 0.2], start=1):
        selector.offer(score, 0.02, step, lambda: {"copy": next(copies)})
        exhausted.append(selector.exhausted)
    assert exhausted == [False] * 6 + [True]
    assert (selector.step, selector.best, selector.state) == (5, 0.9, {"copy": 3})
    assert not offered([(0.0, 0.0)] + [(-1.0, 0.0)] * 9).exhausted


def test_the_kept_state_is_restored():
    selector, model = offered([(1.0, 0.0), (0.0, 0.0)]), nn.Linear(1, 1, bias=False)
    selector.restore(model)
    assert (model.weight.item(), model.training) == (1, False)
    CheckpointSelector().restore(model)  # nothing was kept
    assert model.weight.item() == 1
