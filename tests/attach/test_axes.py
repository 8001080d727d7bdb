import pytest
import torch
from torch import nn

from concordant import UsageError, attach
from concordant.attach.axes import batch_axis, fitting_layouts


class Pooled(nn.Module):
    """Two encoders, each pooled over the axes of its positions."""

    def __init__(self, one, two, size, axes):
        super().__init__()
        self.a, self.v, self.head, self.axes = one, two, nn.Linear(2 * size, 3), axes

    def forward(self, a, v):
        a, v = (x[0] if isinstance(x, tuple) else x for x in (self.a(a), self.v(v)))
        return self.head(torch.cat([a.mean(self.axes), v.mean(self.axes)], 1))


class Last(nn.Module):
    """A projection of the channels of a map, which it moves behind the places, as Swin does."""

    def __init__(self, inputs):
        super().__init__()
        self.net = nn.Conv2d(inputs, 8, 1)

    def forward(self, x):
        return self.net(x).permute(0, 2, 3, 1)


class Opaque(nn.Module):
    """A feature whose axes no function shows."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * self.weight


def attended(size):
    return nn.TransformerEncoderLayer(size, 2, 8, batch_first=True)


CASES = {
    "conv1d": (Pooled(nn.Conv1d(5, 8, 1), nn.Conv1d(7, 8, 1), 8, 2), (6, 5, 9), (6, 7, 9), "bdt"),
    "conv2d": (Pooled(nn.Conv2d(5, 8, 1), nn.Conv2d(7, 8, 1), 8, (2, 3)), (6, 5, 9, 8), (6, 7, 9, 8), "bchw"),
    "channels last": (Pooled(nn.Linear(5, 8), nn.Linear(7, 8), 8, (1, 2)), (6, 4, 9, 5), (6, 9, 8, 7), "bhwc"),
    "moved channels": (Pooled(Last(5), Last(7), 8, (1, 2)), (6, 5, 4, 9), (6, 7, 9, 8), "bhwc"),
    "films with channels last": (
        Pooled(nn.Linear(5, 8), nn.Linear(7, 8), 8, (1, 2, 3)),
        *[(6, 2, 4, 9, n) for n in (5, 7)],
        "bthwc",
    ),
    "recurrent": (Pooled(nn.GRU(5, 8), nn.GRU(7, 8), 8, 0), (9, 6, 5), (9, 6, 7), "tbd"),
    "as many steps as rows": (Pooled(nn.GRU(5, 8), nn.GRU(7, 8), 8, 0), (6, 6, 5), (6, 6, 7), "tbd"),
    "batch first": (Pooled(nn.GRU(5, 8, batch_first=True), attended(8), 8, 1), (6, 9, 5), (6, 4, 8), "btd"),
    "as many features as steps": (Pooled(nn.Linear(5, 8), nn.Linear(7, 8), 8, 1), (6, 8, 5), (6, 8, 7), "btd"),
    "two instances": (Pooled(nn.Conv1d(5, 8, 1), nn.Conv1d(7, 8, 1), 8, 2), (2, 5, 9), (2, 7, 9), "bdt"),
    "one instance": (Pooled(nn.GRU(5, 8), nn.GRU(7, 8), 8, 0), (9, 1, 5), (9, 1, 7), "tbd"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("example", [False, True])
def test_auto_takes_the_axes_that_forward_passes_show(name, example):
    model, a, v, layout = CASES[name]
    inputs = torch.randn(a), torch.randn(v)
    attached = attach(model, {"a": "a", "v": "v"}, example=inputs if example else None, seed=0).eval()
    expected = model.eval()(*inputs)
    assert torch.equal(attached(*inputs), expected)
    assert attached.settings.layouts == {"a": layout, "v": layout}
    assert attached.calibrator.sizes == {"a": 8, "v": 8}
    assert attached.calibration.reliability.shape == (a[layout.index("b")], 2)
    attached.detach()


def test_what_cannot_be_told_is_asked_for():
    inputs = torch.randn(6, 4, 8), torch.randn(6, 9, 8)
    model = Pooled(Opaque(), Opaque(), 8, 1)
    message = (
        r"layout of the tap 'a' of 'a' cannot be told from its shape \(6, 4, 8\) in a batch of 6, instances on axis 0"
    )
    with pytest.raises(UsageError, match=message + r"; give layout=\{'a': \.\.\.\}: 'btd' or 'bdt'"):
        attach(model, {"a": "a", "v": "v"}, seed=0)(*inputs)
    attached = attach(model, {"a": "a", "v": "v"}, layout="btd", example=inputs, seed=0).eval()
    assert torch.equal(attached(*inputs), model(*inputs))


def test_a_layout_is_checked_with_an_example():
    model, a, v, layout = CASES["as many steps as rows"]
    with pytest.raises(UsageError, match=r"layout\['a'\] is 'btd', but the tap 'a' has its instances on axis 1 of"):
        attach(model, {"a": "a", "v": "v"}, layout="btd", example=(torch.randn(a), torch.randn(v)), seed=0)
    attach(model, {"a": "a", "v": "v"}, layout=layout, example=(torch.randn(a), torch.randn(v)), seed=0)


def test_instances_are_where_values_do_not_depend_on_other_instances():
    whole = torch.randn(4, 6, 3)
    assert batch_axis(whole, whole[1:3], slice(1, 3), 4) == 0
    assert batch_axis(whole, whole[:, 1:5], slice(1, 5), 6) == 1
    assert batch_axis(whole, whole[1:3] + 1, slice(1, 3), 4) is None
    assert batch_axis(torch.cat([whole, whole]), whole[1:3].repeat(1, 1, 1, 1)[0], slice(1, 3), 4) is None


def test_layouts_fit_a_shape_and_its_axes():
    assert fitting_layouts((4, 5, 6), 0, None, 4) == ["btd", "bdt"]
    assert fitting_layouts((5, 4, 6), 1, 2, 4) == ["tbd"]
    assert fitting_layouts((12, 3), 0, 1, 4) == ["(b t)d"]
    assert fitting_layouts((12, 3, 2, 2), 0, 1, 4) == ["(b t)chw"]
    assert fitting_layouts((13, 3), None, 1, 4) == []
