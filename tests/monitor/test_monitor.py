import json

import numpy as np
import pytest
import torch
from torch import nn

import concordant
from concordant import ContextualCalibrator
from concordant.data.split import Split
from concordant.errors import DataError, UsageError
from concordant.monitor import Monitor

MIX = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))


def streamed(count, seed):
    """Two views of one hidden state."""
    draws = torch.Generator().manual_seed(seed)
    state = torch.randn(count, 3, generator=draws)
    return {
        "left": state @ MIX + 0.2 * torch.randn(count, 5, generator=draws),
        "right": state.unsqueeze(1) + 0.2 * torch.randn(count, 4, 3, generator=draws),
    }


@pytest.fixture(scope="module")
def calibrator():
    torch.manual_seed(0)
    module = ContextualCalibrator({"left": 5, "right": 3}, seed=0)
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for step in range(150):
        out = module(streamed(64, step), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        out.auxiliary_loss.backward()
        optimizer.step()
    return module.eval()


@pytest.fixture
def monitor(calibrator):
    return Monitor(calibrator, rate=1e-3).learn(streamed(300, 1001))


def test_a_sensor_that_dies_is_named_and_a_clean_stream_is_quiet(monitor):
    assert monitor.update(streamed(100, 1002)) == []
    assert {name: one["state"] for name, one in monitor.status.items()} == {"left": "ok", "right": "ok"}
    bad = streamed(30, 1003)
    bad["left"] = torch.zeros_like(bad["left"])
    alarms = monitor.update(bad)
    assert [(alarm.modality, alarm.kind) for alarm in alarms] == [("left", "died")]
    assert 100 < alarms[0].number <= 110
    status = monitor.status["left"]
    assert status["state"] == "died"
    assert status["since"] == alarms[0].since
    assert status["martingale"] >= monitor.threshold
    assert status["reliability"] < 0.4
    assert monitor.alarms == alarms


def test_a_sensor_that_freezes_is_named(monitor):
    stream = streamed(60, 1004)
    stream["right"][20:] = stream["right"][20]
    monitor.update(stream)
    assert monitor.status["right"]["state"] == "frozen"


def test_a_swapped_sensor_is_seen(monitor):
    stream = streamed(80, 1005)
    stream["left"][20:] = stream["left"][20:].flip(0)
    (alarm,) = monitor.update(stream)
    assert alarm.kind == "swapped"
    assert alarm.number > 20


def test_absent_instances_raise_an_alarm(monitor):
    stream = streamed(30, 1006)
    (alarm,) = monitor.update(stream, present={"right": torch.zeros(30, dtype=torch.bool)})
    assert (alarm.modality, alarm.kind) == ("right", "died")


def test_single_instances_are_watched_as_a_batch_of_them_is(calibrator):
    one, many = (Monitor(calibrator, rate=1e-3).learn(streamed(100, 1)) for _ in range(2))
    stream = streamed(12, 2)
    masks = {"right": torch.arange(4) < torch.randint(2, 5, (12, 1), generator=torch.Generator().manual_seed(0))}
    present = {"left": torch.rand(12, generator=torch.Generator().manual_seed(0)) < 0.7}
    many.update(stream, masks, present)
    for row in range(12):
        one.update(
            {name: x[row] for name, x in stream.items()}, {"right": masks["right"][row]}, {"left": present["left"][row]}
        )
    for name in ("left", "right"):
        assert one.status[name]["martingale"] == pytest.approx(many.status[name]["martingale"], rel=1e-4)
    assert one.watch.number == many.watch.number == 12


def test_the_output_is_the_models_own(calibrator, monitor):
    features = streamed(8, 3)
    with torch.no_grad():
        out, expected = monitor(features), calibrator(features)
    assert torch.equal(out.features["left"], expected.features["left"])
    assert monitor.watch.number == 8


def test_watching_leaves_the_mode_and_the_random_state_of_the_model_alone(calibrator):
    calibrator.train()
    try:
        state = torch.get_rng_state()
        monitor = Monitor(calibrator).learn(streamed(30, 4))
        monitor.update(streamed(3, 5))
        assert calibrator.training
        assert torch.equal(torch.get_rng_state(), state)
        with pytest.raises(UsageError, match=r"the model is in training mode, .*; call \.eval\(\) first"):
            monitor(streamed(3, 5))
    finally:
        calibrator.eval()


def test_time_first_features_are_learnt_and_watched_one_by_one():
    module = ContextualCalibrator({"left": 5, "right": 3}, layouts={"left": "bd", "right": "tbd"}, seed=0).eval()
    clean, stream = streamed(30, 13), streamed(4, 14)
    clean["right"], stream["right"] = clean["right"].transpose(0, 1), stream["right"].transpose(0, 1)
    one, many = (Monitor(module).learn(clean) for _ in range(2))
    many.update(stream)
    for row in range(4):
        one.update({"left": stream["left"][row], "right": stream["right"][:, row]})
    assert one.watch.number == many.watch.number == 4
    assert one.status["right"]["martingale"] == pytest.approx(many.status["right"]["martingale"], rel=1e-4)
    assert len(one.watch.center["right"]) == 6  # mean and spread over time of three features


class Keeps(nn.Module):
    """A model with two positional inputs that keeps its last calibration, as an attached one does."""

    def __init__(self, calibrator):
        super().__init__()
        self.calibrator, self.calibration = calibrator, None

    def forward(self, left, right):
        self.calibration = self.calibrator({"left": left, "right": right})
        return self.calibration.features["left"].sum(1, keepdim=True)


def test_a_model_with_its_own_arguments_is_watched(calibrator):
    clean, stream = streamed(200, 6), streamed(60, 7)
    stream["left"][20:] = stream["left"][20]
    loader = [((clean["left"][rows], clean["right"][rows]), rows) for rows in torch.arange(200).split(64)]
    monitor = Monitor(Keeps(calibrator).eval(), rate=1e-3).learn(loader)
    out = monitor(stream["left"][:20], stream["right"][:20])
    assert out.shape == (20, 1)
    monitor.update((stream["left"][20:], stream["right"][20:]))
    assert monitor.status["left"]["state"] == "frozen"


def test_parts_and_loaders_are_learnt_from_as_tensors_are(calibrator):
    clean = streamed(60, 8)
    part = Split({name: x.numpy() for name, x in clean.items()}, np.zeros(60, np.int64), np.arange(60).astype(str))
    loader = [({name: x[rows] for name, x in clean.items()}, 0) for rows in torch.arange(60).split(25)]
    states = []
    for data in (clean, part, loader):
        monitor = Monitor(calibrator).learn(data)
        states.append([urn[2]["scores"] for urn in monitor.state_dict()["watch"]["urns"]])
    for one in states[1:]:
        for got, expected in zip(one, states[0], strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_clean_data_in_no_order_are_shuffled_before_changes_are_measured(calibrator):
    clean = streamed(100, 9)
    order = clean["left"][:, 0].argsort()  # neighbours are alike
    clean = {name: x[order] for name, x in clean.items()}
    changes = {}
    for ordered in (True, False):
        watch = Monitor(calibrator).learn(clean, ordered=ordered).watch
        changes[ordered] = np.median(watch.urns["left", "change"].scores)
    assert changes[False] > 1.1 * changes[True]


def test_a_saved_monitor_goes_on_where_it_stopped(monitor, calibrator, tmp_path):
    stream = streamed(60, 10)
    stream["left"][20:] = 0
    monitor.update({name: x[:22] for name, x in stream.items()})
    monitor.save(tmp_path / "deep" / "monitor.json")
    again = Monitor.load(tmp_path / "deep" / "monitor.json", calibrator)
    rest = {name: x[22:] for name, x in stream.items()}
    assert again.update(rest) == monitor.update(rest) != []
    assert again.state_dict() == monitor.state_dict()
    assert json.dumps(again.state_dict(), allow_nan=False)


def test_files_of_something_else_are_refused(calibrator, tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"schema": "concordant.results/1"}')
    with pytest.raises(
        DataError, match=r"x\.json: state must be a monitor's, of the schema concordant\.monitor/1; found"
    ):
        Monitor.load(path, calibrator)
    path.write_text('{"schema": "concordant.monitor/1", "guarantee": "ever", "watch": {}}')
    with pytest.raises(DataError, match=r"x\.json: state is not whole \(KeyError: 'names'\); save the monitor again"):
        Monitor.load(path, calibrator)
    with pytest.raises(DataError, match="cannot be read as JSON"):
        Monitor.load(tmp_path / "none.json", calibrator)


def test_a_reset_modality_is_ok_again(monitor):
    bad = streamed(30, 11)
    bad["left"][:] = 0
    assert monitor.update(bad)
    monitor.reset("left")
    assert monitor.status["left"]["state"] == "ok"
    assert monitor.update(streamed(100, 12)) == []
    assert monitor.update(bad)
    monitor.reset()
    assert monitor.alarms == []
    with pytest.raises(UsageError, match="unknown modality 'up'; choose from: left, right"):
        monitor.reset("up")


def test_wrong_use_is_refused_in_a_sentence(calibrator, monitor):
    with pytest.raises(UsageError, match="rate must lie between 0 and 1"):
        Monitor(calibrator, rate=2)
    with pytest.raises(UsageError, match="guarantee must be one of"):
        Monitor(calibrator, guarantee="none")
    with pytest.raises(UsageError, match="model must be a module or another callable; found int"):
        Monitor(3)
    with pytest.raises(UsageError, match=r"call learn\(\.\.\.\) on clean data first"):
        Monitor(calibrator).update(streamed(2, 0))
    with pytest.raises(UsageError, match="data must be features by modality, a split, or a loader of them; found int"):
        Monitor(calibrator).learn(3)
    with pytest.raises(UsageError, match="data must hold instances to learn from; found none"):
        Monitor(calibrator).learn([])
    with pytest.raises(UsageError, match=r"model must return a Calibration, .*; found Tensor without one"):
        Monitor(nn.Linear(3, 2)).learn([torch.randn(30, 3)])
    mixed = streamed(2, 0)
    mixed["left"] = mixed["left"][0]
    with pytest.raises(UsageError, match=r"of the clean data \(left with 2, right with 3\), .* found left with 1"):
        monitor.update(mixed)


def test_the_monitor_is_at_the_top_of_the_package():
    assert concordant.Monitor is Monitor


def test_numpy_arrays_and_numbers_are_taken(calibrator):
    clean = streamed(60, 1001)
    monitors = [
        Monitor(calibrator, rate=kind(1e-3), seed=seed(3)) for kind, seed in ((float, int), (np.float64, np.int64))
    ]
    monitors[0].learn(clean)
    monitors[1].learn({name: x.double().numpy() for name, x in clean.items()})
    stream = {name: x[:8] for name, x in clean.items()}
    for monitor, change in zip(monitors, (lambda x: x, lambda x: x.double().numpy()), strict=True):
        monitor.update({name: change(x) for name, x in stream.items()})
        monitor.update(
            {name: change(x[0]) for name, x in stream.items()}, present=dict.fromkeys(stream, np.bool_(True))
        )
    assert monitors[0].status == monitors[1].status


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": torch.tensor(0.1)}, r"rate must lie between 0 and 1: .*; found tensor"),
        ({"guarantee": np.zeros(2)}, r"guarantee must be one of run-length, ever; found ndarray of shape \(2,\)"),
        ({"seed": 0.5}, "seed must be an integer of 0 or more; found 0.5"),
        ({"seed": -1}, "seed must be 0 or more; found -1"),
        ({"layouts": "bd"}, "layouts must be modality -> one of auto, bd, .*; found 'bd'"),
        ({"layouts": {"left": "db"}}, "layouts must be modality -> one of"),
    ],
)
def test_arguments_of_wrong_types_are_refused(calibrator, options, message):
    with pytest.raises(UsageError, match=message):
        Monitor(calibrator, **options)


class Flagged(nn.Module):
    """Takes other arguments than tensors of rows, some of them by `**more`."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = nn.Linear(5, 4), nn.Linear(3, 4), nn.Linear(8, 2)

    def forward(self, left, right, scale=None, mode="mean", **more):
        right = self.right(right).mean(1) if mode == "mean" else self.right(right)[:, 0]
        out = self.head(torch.cat([self.left(left), right], 1)) * (1 if scale is None else scale)
        return {"logits": out, **more} if more.get("return_dict") else out


@pytest.mark.parametrize(
    "flags",
    [
        {"return_dict": True},
        {"scale": None, "mode": "first"},
        {"scale": torch.tensor(2.0)},
        {"scale": 0.5, "return_dict": None},
        {"options": {"deep": [1, None]}, "names": ["a", "b"], "mode": "mean"},
    ],
)
def test_flags_and_none_stand_beside_the_features(flags):
    torch.manual_seed(0)
    stream, later = streamed(40, 1), streamed(6, 2)
    attached = concordant.attach(Flagged(), {"left": "left", "right": "right"}, example={**stream, **flags}, seed=0)
    attached.eval()
    plain = Monitor(attached).learn(streamed(40, 1))
    loader = [({name: x[i : i + 20] for name, x in stream.items()} | flags, torch.zeros(20)) for i in (0, 20)]
    by_name, of_loader = Monitor(attached).learn({**stream, **flags}), Monitor(attached).learn(loader)
    whole, single = Monitor(attached).learn(loader), Monitor(attached).learn(loader)
    for monitor in (by_name, of_loader):
        monitor.update({**later, **flags})
    for i in range(6):
        single.update({name: x[i] for name, x in later.items()} | flags)
    whole(**later, **flags)
    states = [monitor.state_dict() for monitor in (by_name, of_loader, whole)]
    assert states[0] == states[1] == states[2]
    assert single.status == by_name.status
    if "mode" not in flags:
        plain.update(later)
        assert plain.status == by_name.status


def test_data_that_are_refused_leave_what_was_learnt(monitor):
    with pytest.raises(UsageError, match="20 instances or more"):
        monitor.learn({name: x.unsqueeze(1) if x.dim() == 2 else x for name, x in streamed(10, 3).items()})
    assert monitor.update(streamed(1, 5)) == []
