import copy
import pickle
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from concordant import ConcordantError, ContextualCalibrator, Perturbation, UsageError, attach, fit_plugin
from concordant.attach import fit as fit_module
from concordant.attach.harm import upper_bound
from concordant.attach.outcomes import class_labels, default_loss, errors, logits_of, validation_loss

C, D = 4, 16
TAPS = {"one": "one", "two": "two"}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D))
        self.two = nn.Linear(D, D)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * D, C))

    def forward(self, one, two):
        return {"features": None, "logits": self.head(torch.cat([self.one(one), self.two(two)], 1))}


def data(rows, seed):
    """Two views of the same four classes."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(C, (rows,), generator=draws)
    means = torch.randn(2, C, D, generator=torch.Generator().manual_seed(99))
    views = [mean[labels] + 0.7 * torch.randn(rows, D, generator=draws) for mean in means]
    return views, labels


def loader(rows=256, seed=0, batch=64):
    (one, two), labels = data(rows, seed)
    return [((one[i : i + batch], two[i : i + batch]), labels[i : i + batch]) for i in range(0, rows, batch)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(15):
        for inputs, labels in loader():
            optimizer.zero_grad()
            F.cross_entropy(net(*inputs)["logits"], labels).backward()
            optimizer.step()
    return net


def accuracy(net, rows=512, perturbed=False):
    (one, two), labels = data(rows, 7)
    if perturbed:
        one = 3 * torch.randn(rows, D, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        return float((net(one, two)["logits"].argmax(1) == labels).float().mean())


@pytest.mark.parametrize(("learn", "gain"), [("reliability", 0.02), ("task", 0.05)])
def test_a_fitted_plugin_keeps_clean_accuracy_and_helps_where_a_view_is_wrong(model, learn, gain):
    original = copy.deepcopy(model.eval())
    state = copy.deepcopy(model.state_dict())
    draws = torch.rand(1), torch.get_rng_state()
    options = {"learn": learn, "copies": True} if learn == "task" else {}
    attached = fit_plugin(model, loader(), TAPS, layout="bd", epochs=20, validation=loader(256, 3), **options)
    assert torch.equal(torch.get_rng_state(), draws[1])
    assert not any(module.training for module in attached.modules())
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
    assert accuracy(attached) >= accuracy(original) - 0.01
    assert accuracy(attached, perturbed=True) >= accuracy(original, perturbed=True) + gain
    attached.detach()
    assert accuracy(model) == accuracy(original)


def test_the_state_with_the_lowest_validation_loss_is_kept_even_the_initial_one(model, monkeypatch):
    for losses, expected in ([0.0, 1.0, 2.0], None), ([2.0, 1.0, 3.0], 1):
        given, states = iter(losses), []

        def next_loss(attached, *_, given=given, states=states, **__):
            states.append(copy.deepcopy(attached.calibrator.state_dict()))
            return next(given)

        monkeypatch.setattr(fit_module, "validation_loss", next_loss)
        attached = fit_plugin(copy.deepcopy(model), loader(), TAPS, learn="task", steps=2, validation=loader(64, 5))
        kept = attached.calibrator.state_dict()
        assert all(torch.equal(kept[key], value) for key, value in states[expected or 0].items())
        assert not all(torch.equal(kept[key], value) for key, value in states[2].items())


def test_a_seed_determines_the_fitted_parameters(model):
    fits = [fit_plugin(copy.deepcopy(model), loader(), TAPS, steps=5, seed=3) for _ in range(2)]
    for one, two in zip(*(fit.calibrator.parameters() for fit in fits), strict=True):
        assert torch.equal(one, two)
    other = fit_plugin(copy.deepcopy(model), loader(), TAPS, steps=5, seed=4)
    pairs = zip(fits[0].calibrator.parameters(), other.calibrator.parameters(), strict=True)
    assert not all(torch.equal(one, two) for one, two in pairs)


def test_reliability_is_learned_without_the_head_and_gates_stay_one(model):
    own, calls = copy.deepcopy(model), []
    own.head.register_forward_hook(lambda *_: calls.append(1))
    attached = fit_plugin(own, loader(), TAPS, layout="bd", steps=20)
    assert len(calls) == 5  # by the batch that gives axes, sizes, use and classes, and in none of twenty steps
    (one, two), _ = data(64, 9)
    attached(one, two)
    assert all(bool((gate == 1).all()) for gate in attached.calibration.gates.values())
    assert any(bool(head.reliability.weight.any()) for head in attached.calibrator.heads.values())
    assert attached.calibrator.perturbation.variation == 0.5


def test_features_that_look_clean_pass_unchanged_bit_for_bit(model):
    attached = fit_plugin(copy.deepcopy(model), loader(), TAPS, layout="bd", epochs=40)
    (one, two), _ = data(256, 7)
    out, expected = attached(one, two)["logits"], model.eval()(one, two)["logits"]
    clean = (attached.calibration.logits >= 3 - 2.0).all(1)
    assert clean.float().mean() > 0.8
    assert torch.equal(out[clean], expected[clean])
    assert not torch.equal(out, expected)
    assert attached.calibration.reliability.max() == 1


@pytest.fixture(scope="module")
def held_out():
    """Three batches whose answers are 600 rows."""
    return loader(600, 5, batch=200)


@pytest.fixture(scope="module")
def bounded(model, held_out):
    return fit_plugin(copy.deepcopy(model), loader(), TAPS, layout="bd", steps=60, validation=held_out)


def flips(attached, model, batches):
    harmed = right = 0
    with torch.no_grad():
        for inputs, labels in batches:
            before, after = (net(*inputs)["logits"].argmax(1) == labels for net in (model, attached))
            harmed, right = harmed + int((before & ~after).sum()), right + int(before.sum())
    return harmed, right


def test_the_guarantee_is_what_the_validation_rows_show(bounded, model, held_out):
    found = bounded.guarantee
    assert (found.harm, found.confidence) == (0.02, 0.9)
    assert (found.flips, found.rows) == flips(bounded, model.eval(), held_out)
    assert found.bound == upper_bound(found.flips, found.rows, 1 - 0.1 / 3)  # of three candidates
    assert found.bound <= 0.02
    assert 0.5 <= found.tolerance < float("inf")
    assert bounded.calibrator.tolerance.tolist() == [found.tolerance] * 2
    assert bounded.calibrator.perturbation.variation in (0.0, 0.25, 0.5)
    assert bounded.calibrator.fill == "context"
    assert bounded.calibrator.classes == C
    assert accuracy(bounded, perturbed=True) >= accuracy(model.eval(), perturbed=True)


def test_the_guarantee_is_part_of_the_state(bounded, model):
    other = attach(copy.deepcopy(model), TAPS, calibrator=copy.deepcopy(bounded.calibrator))
    other.calibrator.tolerate(None)
    assert other.guarantee is None
    other.half().load_state_dict(bounded.state_dict())
    assert other.guarantee == bounded.guarantee
    assert pickle.loads(pickle.dumps(bounded)).guarantee == bounded.guarantee
    other.calibrator.tolerate(1.0)
    assert other.guarantee is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "answers that can be harmed among the validation rows are too few; it takes 114 or more"),
        ({"groups": ["a", "b"] * 32}, "2 groups among the validation rows are too few; it takes 114 or more"),
        ({"harm": 0.001}, "it takes 2302 or more; features are not scaled; give more validation rows, or a larger"),
    ],
)
def test_too_few_rows_touch_nothing_and_the_warning_has_their_number(model, options, message):
    options = {"perturbation": True, "steps": 5, "tolerance": 0.0, **options}
    with pytest.warns(UserWarning, match=message):
        attached = fit_plugin(copy.deepcopy(model), loader(), TAPS, layout="bd", validation=loader(64, 5), **options)
    (one, two), _ = data(64, 9)
    assert torch.equal(attached(one, two)["logits"], model.eval()(one, two)["logits"])
    assert attached.guarantee.tolerance == float("inf")
    assert attached.guarantee.flips == attached.guarantee.bound == 0


def test_a_calibrator_that_breaks_the_bound_at_every_tolerance_is_not_applied(model):
    calibrator = ContextualCalibrator({"one": D, "two": D}, layouts="bd", fill="mean")
    with torch.no_grad():
        for head in calibrator.heads.values():
            head.reliability.bias.fill_(-20.0)  # trusts nothing, whatever it meets
    options = {"calibrator": calibrator, "steps": 1, "learning_rate": 1e-9}
    with pytest.warns(
        UserWarning, match=r"of \d+ answers that can be harmed among the validation rows \d+ are, at the"
    ):
        attached = fit_plugin(copy.deepcopy(model), loader(), TAPS, layout="bd", validation=loader(400, 5), **options)
    (one, two), _ = data(64, 9)
    assert torch.equal(attached(one, two)["logits"], model.eval()(one, two)["logits"])


def test_groups_are_units_of_the_bound(model):
    options = {"steps": 5, "perturbation": True, "harm": 0.1, "groups": torch.arange(400) // 4, "layout": "bd"}
    attached = fit_plugin(copy.deepcopy(model), loader(), TAPS, validation=loader(400, 5), **options)
    assert attached.guarantee.rows == 100
    with pytest.raises(UsageError, match="groups must have one entry per validation row, 64; found 400"):
        fit_plugin(copy.deepcopy(model), loader(), TAPS, validation=loader(64, 5), **options)


class Scorer(Net):
    forward = None

    def score(self, one, two):
        return Net.forward(self, one, two)


def test_a_method_of_the_model_is_fitted_and_compared(model):
    own = Scorer()
    own.load_state_dict(model.state_dict())
    options = {"steps": 5, "perturbation": True, "layout": "bd", "method": "score", "validation": loader(300, 5)}
    attached = fit_plugin(own, loader(), TAPS, **options)
    assert attached.guarantee.rows == flips(attached, own.score, loader(300, 5))[1]
    assert attached.calibrator.classes == C


class Value(Net):
    def forward(self, one, two):
        return super().forward(one, two)["logits"][:, 0]


def test_real_targets_are_harmed_where_the_absolute_error_grows(model):
    own = Value()
    own.load_state_dict(model.state_dict())
    with torch.no_grad():
        batches, held_out = ([(x, own.eval()(*x) + y) for x, y in loader(rows, 3)] for rows in (128, 256))
    options = {"steps": 20, "layout": "bd", "perturbation": Perturbation()}
    attached = fit_plugin(own, batches, TAPS, validation=held_out, **options)
    assert attached.guarantee.rows == 256
    with torch.no_grad():
        grown = torch.cat([(attached(*x) - y).abs() - (own(*x) - y).abs() for x, y in held_out])
    spread = torch.cat([y for _, y in batches]).std()
    assert attached.guarantee.flips == int((grown > 0.1 * spread).sum())
    own_loss = {"loss": lambda out, y: (out - y).square().mean(), "growth": None}
    with pytest.raises(UsageError, match="growth must be given beside a loss of your own"):
        fit_plugin(attached.detach(), batches, TAPS, validation=held_out, **options, **own_loss)
    attached = fit_plugin(own, batches, TAPS, validation=held_out, **options, **{**own_loss, "growth": 0.5})
    assert attached.guarantee.rows == 256
    attached.detach()


def test_absent_modalities_are_filled_where_asked_and_counted(model):
    gone = {"one": lambda one, two: one.abs().sum(1) > 0}
    batches = [((torch.where(torch.arange(len(x[0]))[:, None] % 8 == 0, 0, x[0]), x[1]), y) for x, y in loader(512, 5)]
    options = {"layout": "bd", "steps": 60, "present": gone, "absent": "fill", "harm": 0.2, "perturbation": True}
    attached = fit_plugin(copy.deepcopy(model), batches, TAPS, validation=batches, **options)
    assert attached.guarantee.bound > 0
    (one, two), labels = data(256, 9)
    attached(torch.zeros_like(one), two)
    assert not attached.calibration.present[:, 0].any()
    filled = (attached(torch.zeros_like(one), two)["logits"].argmax(1) == labels).float().mean()
    plain = (model.eval()(torch.zeros_like(one), two)["logits"].argmax(1) == labels).float().mean()
    assert filled > plain


def test_errors_are_shares_of_wrong_classes_absolute_errors_or_losses_of_rows():
    logits, labels = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 1])
    assert errors(logits, labels)[0].tolist() == [0.0, 1.0, 0.0]
    steps = torch.stack([logits, logits.flip(1)], 2)  # (B, C, T)
    assert errors({"logits": steps}, labels[:, None].expand(3, 2))[0].tolist() == [0.5, 0.5, 0.5]
    assert errors(torch.tensor([[1.0], [2.0]]), torch.tensor([2.0, 4.5]))[0].tolist() == [1.0, 2.5]
    cross = lambda out, y: F.cross_entropy(out[1], y)  # noqa: E731
    found, real = errors((torch.zeros(3, 5), logits), labels, cross)  # the first tensor need not be logits
    assert real
    assert found.tolist() == pytest.approx(F.cross_entropy(logits, labels, reduction="none").tolist())
    square = lambda out, y: (out["x"] - y).square().mean()  # noqa: E731
    assert errors({"x": torch.tensor([1.0, 2.0])}, torch.tensor([2.0, 4.0]), square)[0].tolist() == [1.0, 4.0]


def test_without_freezing_the_model_is_trained_too(model):
    own = copy.deepcopy(model)
    before = own.head[1].weight.clone()
    fit_plugin(own, loader(), TAPS, steps=3, freeze=None)
    assert not torch.equal(own.head[1].weight, before)


def test_a_data_loader_and_dictionaries_of_inputs_are_read(model):
    (one, two), labels = data(64, 0)
    rows = DataLoader(TensorDataset(one, two, labels), batch_size=32)
    batches = [({"one": a, "two": b}, y) for a, b, y in rows]
    assert fit_plugin(copy.deepcopy(model), batches, TAPS, epochs=1).calibration is not None


def test_the_validation_loss_is_repeatable_and_weighs_batches_by_rows(model):
    attached = fit_plugin(copy.deepcopy(model), loader(), TAPS, steps=1)
    found = validation_loss(attached, loader(100, 5, batch=64), default_loss, seed=0)
    assert found == validation_loss(attached, loader(100, 5, batch=64), default_loss, seed=0)
    clean = default_loss(attached(*data(100, 5)[0]), data(100, 5)[1])
    assert found > clean.item()  # perturbed features are part of it
    with torch.no_grad():
        for parameter in attached.calibrator.parameters():
            parameter.zero_()
    constant = validation_loss(attached, loader(100, 5, batch=64), lambda out, y: y.float().sum() / len(y), seed=0)
    assert constant == pytest.approx(data(100, 5)[1].float().mean().item())


def test_the_default_loss_is_cross_entropy_or_the_absolute_error():
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    expected = F.cross_entropy(logits, labels)
    for output in (logits, {"logits": logits}, SimpleNamespace(logits=logits), (logits, torch.zeros(5))):
        assert torch.equal(default_loss(output, labels), expected)
    assert default_loss(torch.tensor([[1.0], [2.0]]), torch.tensor([2.0, 4.0])).item() == 1.5
    assert logits_of("nothing") is None


def test_an_output_without_logits_is_refused():
    with pytest.raises(UsageError, match="one row for each of the 2 targets; found no tensor; give `loss`"):
        default_loss({}, torch.zeros(2))
    with pytest.raises(UsageError, match=r"found one of shape \(3, 4\); give `loss`"):
        default_loss(torch.zeros(3, 4), torch.zeros(2))


def test_labels_are_used_from_three_classes_up():
    assert class_labels(torch.tensor([0, 1, 2])) is not None
    assert class_labels(torch.tensor([0, 1, 1])) is None
    assert class_labels(torch.tensor([0.5, 2.5])) is None
    assert class_labels(torch.zeros(2, 3, dtype=torch.long)) is None
    assert class_labels(torch.tensor([0, 1, 1]), classes=2) is not None
    assert class_labels(torch.tensor([0, -100, 1]), classes=2) is None


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([], {}, "loader must give pairs .*; found nothing"),
        ([torch.zeros(2, D)], {}, "loader must give pairs .*; found Tensor"),
        (loader(64), {"epochs": 0}, "epochs must be 1 or more; found 0"),
        (loader(64), {"steps": -1}, "steps must be 1 or more; found -1"),
        (loader(64), {"learning_rate": 0.0}, "learning_rate must be positive"),
        (loader(64), {"validation": [], "steps": 1}, "validation must give at least one batch; found none"),
        (loader(64), {"validation": iter(loader(64))}, "validation must give batches at every pass; found an iterator"),
        (loader(64), {"groups": 3}, "groups must be a sequence of names or numbers, one per validation row; found 3"),
        (loader(64), {"groups": [[1]]}, "groups must be a sequence of names or numbers, one per validation row"),
        ([(loader(64)[0][0], torch.tensor(1))], {}, "a tensor with a row per instance; found a single number"),
        (loader(64), {"tolerance": -1.0}, "tolerance must not be negative; found -1.0"),
        (loader(64), {"learn": "all"}, "learn must be 'reliability' or 'task'; found 'all'"),
        (loader(64), {"learn": "reliability", "freeze": None}, "leave freeze='backbone' or use learn='task'"),
        (iter(loader(128)), {"steps": 4}, "an iterator can be read only once"),
        (iter(loader(64)), {"epochs": 2}, "an iterator can be read only once"),
        ([(x, y.tolist()) for x, y in loader(64)], {"steps": 4}, "targets must be a tensor with a row .*; found list"),
        (loader(64), {"steps": 1.5}, "steps must be an integer of 1 or more; found 1.5"),
        (loader(64), {"learning_rate": torch.tensor(0.1)}, r"learning_rate must be a number; found tensor\(0.1000\)"),
        (loader(64), {"tolerance": float("inf")}, r"tolerance must lie in \[0, inf\); found inf"),
        (loader(64), {"device": "gpu"}, "device must be one that PyTorch can use here, such as cpu; found 'gpu'"),
        (loader(64), {"loss": 3}, "loss must be a function; found 3"),
        (loader(64), {"harm": 0.0}, r"harm must lie in \(0, 1\); found 0.0"),
        (loader(64), {"confidence": 1.0}, r"confidence must lie in \(0, 1\); found 1.0"),
        (loader(64), {"growth": -1.0}, "growth must not be negative; found -1.0"),
        (loader(64), {"fill": "zero"}, "fill must be 'none' or 'mean' or 'context'; found 'zero'"),
        (5, {}, "loader must be an iterable of batches; found 5"),
        (loader(64), {"seed": 0.5}, "seed must be an integer or None; found 0.5"),
    ],
)
def test_wrong_arguments_are_refused(model, given, options, message):
    with pytest.raises(UsageError, match=message):
        fit_plugin(copy.deepcopy(model), given, TAPS, **options)


class Shrinking(nn.Module):
    """Gives infinity where a feature is far smaller than usual."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, one, two):
        one, two = self.one(one), self.two(two)
        return one[:, :C] + two[:, :C] / (two.norm(dim=1, keepdim=True) > 0.1)


def test_a_loss_that_is_not_finite_is_reported_at_its_step_with_its_cause():
    torch.manual_seed(0)
    net = Shrinking()
    text = (
        r"fit_plugin: the loss is (nan|inf) at step \d, before its update: the model's output is not finite in (\d+) "
        r"of 128 rows, in \2 of them with a perturbed feature"
    )
    with pytest.raises(ConcordantError, match=text):
        fit_plugin(net, loader(), TAPS, learn="task", copies=True, freeze=None, steps=9)
    assert all(x.isfinite().all() for x in net.state_dict().values())
    with pytest.raises(ConcordantError, match=r"the loss is inf at step 1, before its update: the task's loss is inf"):
        fit_plugin(Net(), loader(), TAPS, learn="task", steps=9, loss=lambda out, _: out["logits"].sum() + 1e40)


def test_a_model_that_divides_by_the_norm_is_fitted_by_default():
    class Unit(Net):
        def forward(self, one, two):
            return self.head(torch.cat([x / x.norm(dim=1, keepdim=True) for x in (self.one(one), self.two(two))], 1))

    for learn in ("reliability", "task"):
        attached = fit_plugin(Unit(), loader(), TAPS, learn=learn, steps=12, validation=loader(64, 3))
        assert all(p.isfinite().all() for p in attached.parameters())


class Items(nn.Module):
    """A recommender: features of all items, targets of the users of the batch."""

    def __init__(self, items):
        super().__init__()
        self.one, self.two = nn.Linear(D, D), nn.Linear(D, D)
        (self.first, self.second), _ = data(items, 1)

    def forward(self, users):
        return users @ (self.one(self.first) + self.two(self.second)).T


@pytest.mark.parametrize("items", [12, 9])
@pytest.mark.parametrize("options", [{}, {"learn": "task"}, {"learn": "task", "freeze": None}])
def test_targets_of_other_rows_than_the_features_are_no_labels(items, options):
    draws = torch.Generator().manual_seed(0)
    # The first batch has as many users as there are items, in one case.
    batches = [(torch.randn(rows, D, generator=draws), torch.arange(rows) % items) for rows in (9, 9, 4)]
    attached = fit_plugin(Items(items), batches, TAPS, steps=4, validation=batches, **options)
    assert all(p.isfinite().all() for p in attached.parameters())


def test_the_last_batch_of_one_may_be_squeezed():
    class Squeezed(Net):
        def forward(self, one, two):
            return super().forward(one, two)["logits"].squeeze()

    attached = fit_plugin(Squeezed(), loader(65), TAPS, learn="task", steps=4, validation=loader(65, 3))
    assert attached.calibrator is not None


def test_a_fit_that_fails_gives_the_model_back_as_it_was(model):
    fresh = copy.deepcopy(model).train()
    with pytest.raises(UsageError, match="groups must have one entry per validation row, 64; found 2"):
        fit_plugin(fresh, loader(64), TAPS, steps=2, validation=loader(64), groups=[1, 2])
    assert all(parameter.requires_grad for parameter in fresh.parameters())
    assert all(module.training for module in fresh.modules())


def test_gates_that_were_trained_before_are_counted_as_harm(model):
    gated = attach(copy.deepcopy(model).eval(), TAPS, example=loader(64)[0][0]).calibrator
    with torch.no_grad():
        for head in gated.heads.values():
            head.gate.bias.normal_(0, 3, generator=torch.Generator().manual_seed(0))
    one, two = torch.randn(2, 1000, D, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        right = model.eval()(one, two)["logits"].argmax(1)
    with pytest.warns(UserWarning, match="the gates of the calibrator scale features at any tolerance"):
        attached = fit_plugin(model, loader(), TAPS, steps=2, calibrator=gated, validation=[((one, two), right)])
    with torch.no_grad():
        harmed = int((attached(one, two)["logits"].argmax(1) != right).sum())
    assert attached.guarantee.flips == harmed > 20
    assert attached.guarantee.bound > harmed / 1000
    assert "the upper bound is" in str(attached.guarantee)
    attached.detach()


@pytest.mark.parametrize(
    ("targets", "learn", "message"),
    [
        (lambda labels: labels.float(), "reliability", r"real numbers of shape \(64,\), and the model's"),
        (lambda labels: labels.unsqueeze(1), "task", r"integers of shape \(64, 1\), and the model's output has shape"),
    ],
)
def test_targets_that_do_not_fit_the_output_are_refused(model, targets, learn, message):
    given = [(inputs, targets(labels)) for inputs, labels in loader(64)]
    with pytest.raises(UsageError, match=message):
        fit_plugin(copy.deepcopy(model), given, TAPS, steps=1, learn=learn, validation=given)


def test_class_indices_of_any_integers_are_learnt(model):
    given = [(inputs, labels.int()) for inputs, labels in loader(64)]
    fit_plugin(copy.deepcopy(model), given, TAPS, steps=1, learn="task").detach()


def test_a_fitted_state_loads_as_the_docs_say(model, tmp_path):
    given = loader(256, 3)
    attached = fit_plugin(model, loader(), TAPS, steps=40, validation=given, harm=0.1)
    torch.save(attached.state_dict(), tmp_path / "plugin.pt")
    calibrator = partial(ContextualCalibrator, fill="context", classes=C)
    again = attach(Net(), TAPS, example=given[0][0], calibrator=calibrator).eval()
    again.load_state_dict(torch.load(tmp_path / "plugin.pt"))
    assert torch.equal(again(*given[0][0])["logits"], attached(*given[0][0])["logits"])
    assert again.guarantee == attached.guarantee
    assert again.guarantee.tolerance < float("inf")
    attached.detach()
