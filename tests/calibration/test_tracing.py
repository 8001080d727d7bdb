import torch

from concord.calibration.tracing import values_are_known


def test_values_are_known_in_eager_code_only():
    seen = []

    def note(x):
        seen.append(values_are_known())
        return x.sum()

    note(torch.ones(2))
    torch.func.vmap(note)(torch.ones(3, 2))
    torch.func.grad(note)(torch.ones(2))
    assert seen == [True, False, False]
    assert torch.compile(lambda x: x + values_are_known(), backend="eager")(torch.zeros(1)).item() == 0
    assert values_are_known()
