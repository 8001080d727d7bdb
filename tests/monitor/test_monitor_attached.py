"""A monitor around a model that has its calibrator by `attach` or `fit_plugin`."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from concordant import Monitor, UsageError, attach, fit_plugin
from concordant.attach.wrapper import Attached

CLASSES = 3
MEANS = torch.randn(2, CLASSES, 8, generator=torch.Generator().manual_seed(3))


class Net(nn.Module):
    """Two encoders called inside forward, joined inline."""

    def __init__(self):
        super().__init__()
        self.audio_net, self.visual_net = nn.Linear(8, 6), nn.Sequential(nn.Linear(8, 6), nn.Tanh())
        self.head = nn.Linear(12, CLASSES)

    def forward(self, audio, visual):
        return self.head(torch.cat([self.audio_net(audio), self.visual_net(visual)], 1))


def sensed(count, seed):
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=draws)
    audio, visual = (mean[labels] + 0.5 * torch.randn(count, 8, generator=draws) for mean in MEANS)
    return {"audio": audio, "visual": visual}, labels


def loader(seed, count=256):
    inputs, labels = sensed(count, seed)
    return [
        ((inputs["audio"][at], inputs["visual"][at]), labels[at]) for at in torch.arange(count).split(64)
    ]  # arguments by position


@pytest.fixture(scope="module")
def fitted():
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for seed in range(20):
        for inputs, labels in loader(seed):
            optimizer.zero_grad()
            F.cross_entropy(model(*inputs), labels).backward()
            optimizer.step()
    taps = {"audio": "audio_net", "visual": "visual_net"}
    return fit_plugin(model, loader(0), taps, layout="bd", steps=150)


@pytest.mark.parametrize("how", ["by name", "by position"])
def test_a_fitted_plugin_is_watched_however_it_is_called(fitted, how):
    assert isinstance(fitted, Attached)
    clean = sensed(300, 100)[0] if how == "by name" else loader(100, 300)
    monitor = Monitor(fitted, rate=1e-3).learn(clean)
    stream, _ = sensed(120, 101)
    stream["audio"][60:] = stream["audio"][10]
    monitor.update(stream if how == "by name" else (stream["audio"], stream["visual"]))
    assert monitor.status["visual"]["state"] == "ok"
    assert monitor.status["audio"]["state"] == "frozen"
    assert 60 <= monitor.status["audio"]["since"] <= 64


def test_a_dead_sensor_is_seen_in_what_the_model_is_given_where_it_is_known_by_name(fitted):
    monitor = Monitor(fitted, rate=1e-3).learn(sensed(300, 100)[0])
    stream, _ = sensed(120, 102)
    stream["audio"][60:] = 0  # its feature is the encoder's bias, no zero
    monitor.update(stream)
    assert monitor.status["audio"]["state"] == "died"
    assert monitor.status["visual"]["state"] == "ok"


def test_calling_the_monitor_watches_as_update_does_and_returns_the_models_own_output(fitted):
    stream, _ = sensed(60, 103)
    called, named, updated = (Monitor(fitted).learn(sensed(100, 100)[0]) for _ in range(3))
    out = called(stream["audio"], stream["visual"])
    assert torch.equal(out, fitted(stream["audio"], stream["visual"]))
    named(audio=stream["audio"], visual=stream["visual"])
    updated.update(stream)
    assert called.status == named.status == updated.status


def test_watching_changes_neither_modes_nor_the_model(fitted):
    before = {name: x.clone() for name, x in fitted.state_dict().items()}
    fitted.train()
    try:
        Monitor(fitted).learn(sensed(60, 104)[0])
        assert fitted.calibrator.training
        assert not fitted.model.training  # frozen
    finally:
        fitted.eval()
    assert all(torch.equal(x, before[name]) for name, x in fitted.state_dict().items())


def test_a_state_is_restored_around_the_attached_model(fitted, tmp_path):
    monitor = Monitor(fitted).learn(sensed(100, 100)[0])
    monitor.save(tmp_path / "monitor.json")
    again = Monitor.load(tmp_path / "monitor.json", fitted)
    stream, _ = sensed(30, 105)
    monitor.update(stream)
    again(stream["audio"], stream["visual"])
    assert again.status == monitor.status


def test_a_compiled_or_wrapped_attached_model_is_watched_as_the_bare_one(fitted):
    stream, _ = sensed(20, 106)
    found = []
    for model in (fitted, torch.compile(fitted, backend="eager"), nn.DataParallel(fitted, device_ids=None)):
        monitor = Monitor(model).learn(sensed(60, 100)[0])
        monitor.update(stream)
        found.append(monitor.status)
    assert found[1] == found[2] == found[0]


class Cells(nn.Module):
    """A model without encoders to tap, of sequences with time first."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(7, 5), nn.Linear(5, CLASSES)

    def forward(self, inputs):
        state = None
        for step in torch.cat([inputs["left"], inputs["right"]], 2):
            state = self.cell(step, state)
        return self.head(state)


def test_the_inputs_of_a_model_are_watched_in_the_layout_that_attach_was_told():
    def streamed(count, seed):
        draws = torch.Generator().manual_seed(seed)
        state = torch.randn(1, count, 3, generator=draws)
        left = state + 0.1 * torch.randn(6, count, 3, generator=draws)
        return {"left": left, "right": torch.cat([state, state[..., :1]], 2) + torch.zeros(6, 1, 1)}

    attached = attach(
        Cells().eval(), {"left": "left", "right": "right"}, at="", layout="tbd", example=(streamed(4, 0),), seed=0
    )
    monitor = Monitor(attached, rate=1e-2).learn(streamed(80, 1))
    stream = streamed(40, 2)
    stream["left"][:, 20:] = stream["left"][:, 20:21]
    monitor.update(stream)
    assert monitor.watch.number == 40
    assert monitor.status["left"]["state"] == "frozen"
    assert monitor.status["right"]["state"] == "ok"


def test_after_detach_there_is_nothing_to_watch():
    inputs, _ = sensed(40, 0)
    attached = attach(
        Net().eval(), {"audio": "audio_net", "visual": "visual_net"}, layout="bd", sizes={"audio": 6, "visual": 6}
    )
    monitor = Monitor(attached).learn(inputs)
    attached.detach()
    with pytest.raises(UsageError, match=r"model must return a Calibration.*found Tensor without one"):
        monitor.update(inputs)


def test_what_the_model_cannot_be_told_and_other_names_are_refused(fitted):
    clean, _ = sensed(60, 107)
    monitor = Monitor(fitted).learn(clean)
    here = {"audio": torch.zeros(60, dtype=torch.bool)}
    with pytest.raises(
        UsageError, match=r"audio is absent, and the model takes no `present`.* say `present=` in attach"
    ):
        monitor.update(clean, present=here)
    assert monitor.update(clean, present={"audio": torch.ones(60, dtype=torch.bool)}) == []

    class Renamed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = fitted

        def forward(self, first, second):
            out = self.inner(first, second)
            self.calibration = self.inner.calibration
            return out

    other = Monitor(Renamed().eval())
    other.load_state_dict(monitor.state_dict())
    with pytest.raises(UsageError, match=r"given by modality \(audio, visual\).*found first, second"):
        other(clean["audio"], clean["visual"])


def test_inputs_in_another_layout_than_their_axes_say_are_refused():
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(3, 3), nn.Linear(4, 3)

        def forward(self, left, right):
            return self.left(left).mean(0) + self.right(right).mean(0)

    inputs = {"left": torch.randn(6, 50, 3), "right": torch.randn(6, 50, 4)}
    attached = attach(First().eval(), {"left": "left", "right": "right"}, layout="tbd", sizes={"left": 3, "right": 3})
    with pytest.raises(UsageError, match="'left' must have a row for each of the 50 instances in layout 'btd'"):
        Monitor(attached).learn(inputs)
    Monitor(attached, layouts={"left": "tbd", "right": "tbd"}).learn(inputs)
