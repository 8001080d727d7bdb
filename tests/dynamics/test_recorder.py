"""What the recorder writes down, against the same numbers by hand, on the embedded digits and on planted worlds."""

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from concordant.benchmarks.catalogue import prepare
from concordant.calibration import Perturbation
from concordant.data.split import Split, Task
from concordant.dynamics.gradients import gradient_cosines, modality_losses
from concordant.dynamics.recorder import Recorder, parts_of, validate
from concordant.errors import UsageError
from concordant.training.batches import to_tensors
from concordant.training.config import Variant, make_config
from concordant.training.model import build_model
from concordant.training.train import train
from concordant.training.validation import validation_score

NAMES = ("left", "right", "profile")
RATE = 0.1


@pytest.fixture(scope="module")
def task():
    return prepare("digits", seed=0)


def one_step(task, variant, *, absent=None, **options):
    """Take one step of plain SGD under a recorder; return its records, the output, the model and weights before."""
    config = make_config("digits", recipe={"width": 8}, **options)
    model = build_model(task, config, variant, 0).train()
    batch = to_tensors(task.train).take(slice(0, 20))
    present = {} if absent is None else absent
    recorder = Recorder(every=1)
    settings = Perturbation() if variant.perturbed else None
    out = model(batch.inputs, {}, present, labels=batch.labels, perturbation=settings)
    targets = batch.labels.repeat(len(out.logits) // 20)
    loss = F.cross_entropy(out.logits, targets) + out.calibration.auxiliary_loss
    by_hand = torch.autograd.grad(loss, list(out.calibration.features.values()), retain_graph=True, allow_unused=True)
    recorder.start(model, None, None)
    recorder.forward(1, out, batch.labels)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    loss.backward()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    recorder.before_update(1)
    cosines = gradient_cosines(
        modality_losses(model, out, batch.labels, F.cross_entropy), list(model.fusion.parameters())
    )
    optimizer.step()
    recorder.after_update(1, loss.detach())
    recorder.fetch()
    found = {(record.quantity, record.of): record.value for record in recorder.records if record.quantity != "loss"}
    return found, out, by_hand, model, before, cosines


def test_gradient_norms_are_those_at_the_features_that_the_fusion_joins(task):
    found, _, by_hand, *_ = one_step(task, Variant("context", True))
    for name, gradient in zip(NAMES, by_hand, strict=True):
        assert found["gradient_norm", name] == pytest.approx(float(gradient.norm()), rel=1e-5)


@pytest.mark.parametrize("variant", [Variant("none", False), Variant("context", True)])
def test_the_task_loss_is_that_of_the_clean_copy_for_every_method(task, variant):
    found, out, *_ = one_step(task, variant)
    clean = out.logits[:20]
    labels = torch.from_numpy(task.train.labels[:20])
    assert found["task_loss", ""] == pytest.approx(F.cross_entropy(clean, labels).item())


def test_conflict_is_the_cosine_of_each_pair(task):
    found, *_, cosines = one_step(task, Variant("context", True))
    assert list(cosines) == list(combinations(NAMES, 2))
    for (one, other), value in cosines.items():
        assert found["conflict", f"{one}|{other}"] == pytest.approx(value, abs=1e-6)


def test_the_update_ratio_of_plain_sgd_is_rate_times_gradient_over_weight(task):
    found, _, _, model, before, _ = one_step(task, Variant("context", True))
    parts = ["encoder.left", "encoder.right", "encoder.profile", "calibrator", "fusion"]
    for part in parts:
        prefix = part.replace("encoder", "encoders") + "."
        mine = [name for name in before if name.startswith(prefix)]
        gradients = [model.get_parameter(name).grad for name in mine]
        moved = math.sqrt(sum(float((RATE * g).square().sum()) for g in gradients if g is not None))
        norm = math.sqrt(sum(float(before[name].square().sum()) for name in mine))
        assert found["update_ratio", part] == pytest.approx(moved / norm, rel=1e-3)
    assert {of for quantity, of in found if quantity == "update_ratio"} == set(parts)


def test_quantiles_are_those_of_the_untouched_instances_that_have_the_modality(task):
    here = {"right": torch.arange(20) % 3 != 0}
    found, out, *_ = one_step(task, Variant("self", True), absent=here)
    rows = here["right"].numpy()
    with torch.no_grad():
        reliability = out.calibration.reliability[:20, 1].numpy()[rows]
        gates = out.calibration.gates["right"][:20].numpy()[rows]
    for mark, level in (("q10", 0.1), ("q50", 0.5), ("q90", 0.9)):
        assert found[f"reliability_{mark}", "right"] == pytest.approx(np.quantile(reliability, level), rel=1e-5)
        assert found[f"gate_{mark}", "right"] == pytest.approx(np.quantile(gates, level), rel=1e-5)


def test_a_modality_that_the_whole_batch_lacks_has_no_numbers(task):
    found, *_ = one_step(task, Variant("context", True), absent={"left": torch.zeros(20, dtype=torch.bool)})
    gone = {key for key, value in found.items() if math.isnan(value)}
    assert gone == {
        ("gradient_norm", "left"),
        ("conflict", "left|right"),
        ("conflict", "left|profile"),
        *((f"{what}_{mark}", "left") for what in ("reliability", "gate") for mark in ("q10", "q50", "q90")),
    }


def test_a_twin_has_no_reliability_no_gates_and_no_part_of_its_own(task):
    found, *_ = one_step(task, Variant("none", False))
    assert {quantity for quantity, _ in found} == {"task_loss", "gradient_norm", "conflict", "update_ratio"}
    assert ("update_ratio", "calibrator") not in found


def test_where_the_calibrator_decides_there_is_no_conflict(task):
    found, *_ = one_step(task, Variant("evidential", True), calibrators=("evidential",))
    conflicts = [value for (quantity, _), value in found.items() if quantity == "conflict"]
    assert len(conflicts) == 3
    assert all(math.isnan(value) for value in conflicts)


def test_parts_without_trainable_weights_are_none(task):
    model = build_model(task, make_config("digits", recipe={"width": 8}), Variant("context", True), 0)
    for weight in model.encoders["left"].parameters():
        weight.requires_grad_(False)
    assert list(parts_of(model)) == ["encoder.right", "encoder.profile", "calibrator", "fusion"]


def test_every_so_many_steps_from_the_first_on_and_every_loss():
    recorder = Recorder(every=4)
    assert [step for step in range(1, 12) if recorder.wants(step)] == [1, 5, 9]
    for step in (1, 2, 3):
        recorder.after_update(step, torch.tensor(float(step)))
    recorder.fetch()
    recorder.fetch()
    assert [(r.step, r.quantity, r.of, r.value) for r in recorder.records] == [(s, "loss", "", s) for s in (1, 2, 3)]


@pytest.mark.parametrize("every", [0, -3])
def test_the_distance_must_be_positive(every):
    with pytest.raises(UsageError, match=rf"dynamics must be 1 or more, .* found {every}"):
        Recorder(every=every)


def test_the_log_gets_names_that_tensorboard_takes_and_no_number_that_is_none(task):
    logged = []
    recorder = Recorder(every=5, log=lambda values, step: logged.append((step, values)))
    config = make_config("digits", recipe={"steps": 10, "width": 8, "evaluations": 2})
    train(task, config, Variant("none", False), 0, observer=recorder)
    steps = sorted({step for step, _ in logged})
    assert steps == [1, 5, 6, 10]
    names = {name for _, values in logged for name in values}
    assert {"loss", "conflict/left-right", "update_ratio/encoder.left", "validation_loss", "probe/left"} <= names
    assert {step for step, values in logged if "loss" in values} == {1, 6}
    assert all(math.isfinite(value) for _, values in logged for value in values.values())


def test_validation_is_of_untouched_instances(task):
    model = build_model(task, make_config("digits"), Variant("context", True), 0).eval()
    valid = to_tensors(task.valid)
    loss, score = validate(model, valid, kind="class")
    with torch.no_grad():
        expected = F.cross_entropy(model(valid.inputs).logits, valid.labels)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert score == pytest.approx(validation_score(model, valid, None, 0)[0])


def world(*, real=False, count=400):
    """Return a task on which "left" knows the label and "right" is noise."""
    draws = np.random.default_rng(0)

    def split(size):
        labels = draws.integers(0, 4, size)
        known = np.eye(4)[labels] + 0.2 * draws.normal(size=(size, 4))
        return Split(
            inputs={"left": known.astype(np.float32), "right": draws.normal(size=(size, 6)).astype(np.float32)},
            labels=(labels - 1.5).astype(np.float32) if real else labels,
            ids=np.arange(size).astype(str),
        )

    return Task(
        classes=("a", "b") if real else ("a", "b", "c", "d"),
        layouts={"left": "bd", "right": "bd"},
        train=split(count),
        valid=split(count),
        test=split(8),
        kind="real" if real else "class",
    )


@pytest.mark.parametrize(("real", "chance"), [(False, 0.25), (True, 0.5)])
def test_the_probe_of_noise_stays_at_chance_and_that_of_a_modality_that_knows_does_not(real, chance):
    planted = world(real=real)
    config = make_config(
        "digits", fusion="lf-dnn", modalities=("left", "right"), recipe={"steps": 60, "width": 16, "evaluations": 2}
    )
    recorder = Recorder(every=20, kind=planted.kind)
    trained = train(planted, config, Variant("context", True), 0, observer=recorder)
    final = recorder.finish(trained.model, to_tensors(planted.valid))
    probed = {
        name: [r.value for r in recorder.records if (r.quantity, r.of) == ("probe", name)] for name in ("left", "right")
    }
    assert min(probed["left"]) > 0.9
    assert len(probed["right"]) == 2
    assert max(abs(value - chance) for value in probed["right"]) < 0.12
    norms = {r.of: r.value for r in recorder.records if r.quantity == "gradient_norm" and r.step == 41}
    assert norms["left"] > 0
    scores = [r.value for r in recorder.records if r.quantity == "validation_score"]
    losses = [r.value for r in recorder.records if r.quantity == "validation_loss"]
    assert scores[-1] == (-losses[-1] if real else pytest.approx(1, abs=0.05))
    assert final["sharpness"] is not None
    assert final["final_score"] == pytest.approx(
        validation_score(trained.model, to_tensors(planted.valid), None, 0, kind=planted.kind)[0], rel=1e-5
    )


def test_a_modality_absent_from_the_data_is_not_probed():
    planted = world()

    def without(split):
        return replace(split, present={"right": np.zeros(len(split), bool)})

    planted = replace(planted, train=without(planted.train), valid=without(planted.valid))
    config = make_config(
        "digits", fusion="concat", modalities=("left", "right"), recipe={"steps": 4, "width": 8, "evaluations": 1}
    )
    recorder = Recorder(every=1)
    train(planted, config, Variant("none", False), 0, observer=recorder)
    probed = {r.of: r.value for r in recorder.records if r.quantity == "probe"}
    assert probed["left"] > 0.5
    assert math.isnan(probed["right"])


def test_its_own_time_is_counted(task, monkeypatch):
    from concordant.dynamics import recorder as module

    clock = iter(range(0, 1000, 3))
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    recorder = Recorder()
    with recorder._at_work():
        pass
    with recorder._at_work():
        pass
    assert recorder.seconds == 6


def test_weights_that_start_at_zero_have_no_update_ratio(task):
    found, _, _, model, *_ = one_step(task, Variant("gmu", True))
    assert math.isnan(found["update_ratio", "calibrator"])
    assert any(weight.any() for weight in model.calibrator.parameters())  # they have moved
    assert found["update_ratio", "fusion"] > 0
