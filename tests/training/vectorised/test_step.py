import torch

from concordant.calibration import Perturbation
from concordant.training.batches import to_tensors
from concordant.training.config import Variant
from concordant.training.model import build_model
from concordant.training.step import LOSSES
from concordant.training.vectorised.bank import Bank
from concordant.training.vectorised.draws import Draws
from concordant.training.vectorised.stack import Stack
from concordant.training.vectorised.step import Step


def test_a_played_step_is_vmap_as_it_is(small):
    tasks, config, variant = [small.task(0), small.task(1)], small.config("lf-dnn"), Variant("context", True)
    models = [build_model(task, config, variant, seed) for seed, task in enumerate(tasks)]
    parts = [to_tensors(task.train) for task in tasks]
    step = Step(models[0], Perturbation(), LOSSES["class"], parts[0].take(slice(16)))
    stack = Stack(models, learning_rate=0.01, weight_decay=0.0, steps=4)
    bank = Bank(parts, [0, 1], 16)
    draws = Draws(step.draws, *([torch.Generator().manual_seed(s) for s in (1, 2)] for _ in range(2)))
    for _ in range(3):  # the first is the one that is recorded
        batch, made = bank.next(), draws.next()
        others = {name: value.clone() for name, value in stack.others.items()}
        expected = step.losses(stack.parameters, others, batch, made)
        gradients = torch.autograd.grad(expected.sum(), list(stack.parameters.values()), allow_unused=True)
        losses, found = step(stack.parameters, stack.others, batch, made)
        torch.testing.assert_close(losses, expected.detach())
        torch.testing.assert_close(stack.others, others)
        for one, other in zip(found, gradients, strict=True):
            if other is None:
                assert one is None
            else:
                torch.testing.assert_close(one, other)
        stack.step(found)
