import torch

from concordant.calibration.tracing import exporting, values_are_known


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


def test_compiled_graphs_are_not_exported_ones():
    class Model(torch.nn.Module):
        def forward(self, x):
            return x + 1 if exporting() else x

    x = torch.zeros(2)
    assert torch.equal(torch.compile(Model(), backend="eager", fullgraph=True)(x), x)
    for strict in (False, True):
        assert torch.equal(torch.export.export(Model(), (x,), strict=strict).module()(x), x + 1)
    torch.compiler.reset()
