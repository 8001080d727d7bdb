import torch
from torch import nn

from concordant.training.vectorised.stack import Stack


class Model(nn.Module):
    def __init__(self, seed):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.weight, self.idle = nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(2))
        self.register_buffer("seen", torch.tensor(float(seed)))


def test_stacked_updates_are_those_of_each_alone_also_when_some_have_left():
    options = {"lr": 0.1, "weight_decay": 0.3}
    alone = [Model(seed) for seed in range(3)]
    optimizers = [torch.optim.AdamW(model.parameters(), **options) for model in alone]
    schedules = [torch.optim.lr_scheduler.OneCycleLR(one, 0.1, total_steps=6) for one in optimizers]
    stack = Stack([Model(seed) for seed in range(3)], learning_rate=0.1, weight_decay=0.3, steps=6)
    inside = [0, 1, 2]
    for step in range(6):
        if step == 3:
            stack.keep([0, 2])
            inside = [0, 2]
        gradients = torch.randn(3, 3, 2, generator=torch.Generator().manual_seed(step))
        stack.step([gradients[inside], None])
        for place in range(3):
            alone[place].weight.grad = gradients[place]
            optimizers[place].step()
            schedules[place].step()
    for place, seed in enumerate(inside):
        model = Model(9)
        stack.put(place, model)
        torch.testing.assert_close(model.weight, alone[seed].weight)
        assert torch.equal(model.idle, alone[seed].idle)  # no gradient: no decay either
        assert float(model.seen) == seed
