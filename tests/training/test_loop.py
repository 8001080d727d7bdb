"""The shared training loop on a linear model: order of calls, history, selection, resuming, divergence."""

import pytest
import torch
from torch import nn

from concordant.errors import ConcordantError
from concordant.training.loop import Callback, TrainingState, evaluation_steps, fit, one_cycle
from concordant.training.selection import CheckpointSelector


class Spy(Callback):
    """Records the calls of its hooks."""

    def __init__(self, model):
        self.model, self.calls = model, []

    def before_update(self, step):
        assert self.model.training
        self.calls.append(("before", step))

    def after_update(self, step, loss):
        self.calls.append(("after", step))

    def evaluated(self, step, entry):
        assert not self.model.training
        assert entry["step"] == step
        self.calls.append(("evaluated", step))

    def after_step(self, step):
        self.calls.append(("end", step))


def fitted(steps=4, *, batches=None, spy=False, **options):
    """Fit a linear model; return it, the state of training and the calls."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)

    def step(x):
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        return loss.detach()

    optimizer, schedule = one_cycle(model.parameters(), learning_rate=0.1, weight_decay=0.0, steps=steps)
    draws = torch.Generator().manual_seed(1)
    given = iter([torch.randn(8, 3, generator=draws) for _ in range(steps)]) if batches is None else batches
    callbacks = [Spy(model)] if spy else []
    state = fit(model, step, given, optimizer, schedule, steps=steps, callbacks=callbacks, **options)
    return model, state, callbacks[0].calls if spy else None


def test_hooks_are_called_in_order_and_the_history_has_mean_losses():
    model, state, calls = fitted(3, evaluations=2, spy=True)
    one = [("before", 1), ("after", 1), ("end", 1)]
    two = [("before", 2), ("after", 2), ("evaluated", 2), ("end", 2)]
    assert calls == [*one, *two, ("before", 3), ("after", 3), ("evaluated", 3), ("end", 3)]
    assert [entry["step"] for entry in state.history] == [2, 3]
    assert set(state.history[0]) == {"step", "loss"}
    assert (state.step, state.count) == (3, 0)
    assert model.training


def test_the_loss_falls():
    _, state, _ = fitted(200)
    assert state.history[-1]["loss"] < 0.01 * state.history[0]["loss"]


def test_validation_selects_a_state_and_ends_training():
    scores = iter([(0.5, 0.0), (0.9, 0.0), (0.1, 0.0), (0.2, 0.0)])
    selector = CheckpointSelector(patience=2)
    model, state, _ = fitted(10, evaluations=10, evaluate=lambda: next(scores), selector=selector)
    assert [entry["validation"] for entry in state.history] == [0.5, 0.9, 0.1, 0.2]
    assert selector.step == 2
    last = model.weight.detach().clone()
    selector.restore(model)
    assert not torch.equal(model.weight, last)


def test_batches_are_not_read_ahead():
    batches = iter([torch.ones(2, 3)] * 5)
    fitted(3, batches=batches)
    assert len(list(batches)) == 2


def test_a_resumed_state_goes_on_after_its_step():
    _, state, calls = fitted(5, state=TrainingState(step=3, history=[{"step": 3}]), spy=True)
    assert [step for name, step in calls if name == "end"] == [4, 5]
    assert state.history[0] == {"step": 3}


def test_a_loss_that_is_not_finite_ends_training():
    bad = iter([torch.full((2, 3), torch.inf)] * 3)
    with pytest.raises(ConcordantError, match=r"training diverged at step 1; choose a lower learning_rate than 0\.1"):
        fitted(3, batches=bad)


def test_a_loss_that_is_not_finite_is_reported_before_its_update():
    batches = iter([torch.ones(2, 3), torch.full((2, 3), torch.nan), torch.ones(2, 3)])
    with pytest.raises(ConcordantError, match=r"training diverged at step 2; .* \(the loss is nan\)"):
        fitted(3, batches=batches, evaluations=1)
    assert len(list(batches)) == 1


@pytest.mark.parametrize(("steps", "evaluations", "expected"), [(10, 2, {5, 10}), (3, 10, {1, 2, 3}), (7, 1, {7})])
def test_evaluations_are_evenly_spaced_and_the_last_step_is_one(steps, evaluations, expected):
    assert evaluation_steps(steps, evaluations) == expected
