import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

from concordant import seeding
from concordant.calibration import ops
from concordant.calibration.calibrator import ContextualCalibrator
from concordant.calibration.unimodal import certainty, overlap
from concordant.errors import UsageError

THREE = {"text": 6, "audio": 4, "vision": 5}


def shake(module):
    """Change every weight and running statistic by draws that depend on its name alone."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=seeding.generator(0, name))
        for name, buffer in module.named_buffers():
            draw = torch.rand(buffer.shape, generator=seeding.generator(0, name))
            buffer.copy_(draw - 0.5 if name.endswith("mean") else draw + 0.5)
    return module


def vectors(sizes, batch=8, seed=0):
    draws = seeding.generator(seed, "vectors")
    return {name: torch.randn(batch, size, generator=draws, dtype=torch.float64) for name, size in sizes.items()}


@pytest.mark.parametrize("count", [2, 3, 6, 7, 9])
def test_results_have_the_documented_shapes_and_ranges(count):
    sizes = {f"m{n}": 3 + n for n in range(count)}
    module = shake(ContextualCalibrator(sizes, seed=0)).eval()
    features = {name: x.float() for name, x in vectors(sizes, batch=20).items()}
    present = {f"m{n}": torch.rand(20, generator=seeding.generator(n)) < 0.7 for n in range(count)}
    out = module(features, present=present)
    assert out.names == tuple(sizes)
    assert torch.equal(out.present, torch.stack(list(present.values()), 1))
    assert out.reliability.shape == out.logits.shape == (20, count)
    assert torch.equal(out.reliability == 0, ~out.present)
    assert out.reliability.max() < 1.05
    shown = torch.sigmoid(out.logits) / torch.sigmoid(torch.tensor(3.0))
    torch.testing.assert_close(out.reliability, torch.where(out.present, shown, 0), rtol=1e-5, atol=1e-6)
    for name, size in sizes.items():
        assert out.gates[name].shape == (20, size)
        assert out.gates[name].min() >= 0.5
        assert out.gates[name].max() <= 1.5
    both = out.present.unsqueeze(1) & out.present.unsqueeze(2)
    for cue in (out.support, out.conflict):
        assert cue.shape == (20, count, count)
        assert cue.min() >= 0
        assert cue.max() <= 1
        torch.testing.assert_close(cue, cue.transpose(1, 2))
        assert (cue.diagonal(dim1=1, dim2=2) == 0).all()
        assert (cue[~both] == 0).all()
    assert (out.support * out.conflict == 0).all()
    assert out.support.max() > 0
    assert out.conflict.max() > 0


def test_many_modalities_keep_their_promises():
    sizes = {f"m{n}": 3 + n for n in range(8)}
    features = vectors(sizes)
    features["m3"][::2] = float("nan")
    present = {"m3": torch.arange(8) % 2 == 1}
    backwards = dict(reversed(sizes.items()))
    one = shake(ContextualCalibrator(sizes, seed=0)).eval()(features, present=present)
    two = shake(ContextualCalibrator(backwards, seed=0)).eval()(features, present=present)
    torch.testing.assert_close(one.reliability, two.reliability.flip(1))
    for name in sizes:
        torch.testing.assert_close(one.features[name], two.features[name])
        assert one.features[name].isfinite().all()


def test_a_modality_is_calibrated_by_the_others():
    module = shake(ContextualCalibrator(THREE, layouts="bd", seed=0)).eval()
    features = vectors(THREE)
    before = module(features).reliability
    features["vision"] = features["vision"].roll(1, 0)
    after = module(features).reliability
    assert (before != after).all()


def test_dimension_gates_follow_the_context_only():
    module = shake(ContextualCalibrator(THREE, layouts="bd", seed=0)).eval()
    with torch.no_grad():
        for head in module.heads.values():
            head.evidence.weight.zero_()
    features = vectors(THREE)
    reference = ContextualCalibrator(THREE, layouts="bd", seed=0).eval()
    shake(reference)
    for name in THREE:
        assert torch.equal(module(features).gates[name], reference(features).gates[name])


def test_comparison_size_must_be_two_or_more():
    with pytest.raises(UsageError, match="comparison_size must be 2 or more; found 1"):
        ContextualCalibrator(THREE, comparison_size=1)


def test_vectors_need_half_the_comparison():
    wide, narrow = ContextualCalibrator(THREE), ContextualCalibrator(THREE, layouts="bd")
    for name, size in THREE.items():
        assert wide.heads[name].compare.in_features == 2 * size
        assert narrow.heads[name].compare.in_features == size


def test_heads_start_at_zero_and_nothing_else_does():
    for name, weight in ContextualCalibrator(THREE, seed=0).named_parameters():
        assert (weight.abs().sum() == 0) == (".reliability." in name or ".gate." in name)


def test_training_learns_which_modality_was_replaced():
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32)
    views = {
        "left": images[:, :, :4].flatten(1),
        "right": images[:, :, 4:].flatten(1),
        "profile": torch.cat([images.sum(1), images.sum(2)], 1),
    }
    views = {name: (x - x.mean(0)) / (x.std(0) + 0.1) for name, x in views.items()}
    labels = torch.tensor(digits.target)
    draws = seeding.generator(0, "digits")
    order = torch.randperm(len(labels), generator=draws)
    train, test = order[:1400], order[1400:]

    torch.manual_seed(0)
    calibrate = ContextualCalibrator({name: x.shape[1] for name, x in views.items()}, layouts="bd", seed=0)
    head = nn.Linear(sum(x.shape[1] for x in views.values()), 10)
    optimiser = torch.optim.AdamW([*calibrate.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(300):
        rows = train[torch.randint(len(train), (64,), generator=draws)]
        out = calibrate({name: x[rows] for name, x in views.items()}, labels=labels[rows], generator=draws)
        loss = nn.functional.cross_entropy(head(torch.cat(list(out.features.values()), 1)), labels[rows])
        optimiser.zero_grad()
        (loss + calibrate.auxiliary_loss()).backward()
        optimiser.step()

    calibrate.eval()
    clean = {name: x[test] for name, x in views.items()}
    with torch.no_grad():
        usual = calibrate(clean)
        accuracy = (head(torch.cat(list(usual.features.values()), 1)).argmax(1) == labels[test]).double().mean()
        drops, truth = [], []
        for index, name in enumerate(views):
            swapped = {**clean, name: clean[name].roll(1, 0)}
            different = labels[test] != labels[test].roll(1)
            drop = (usual.reliability.mean(0) - calibrate(swapped).reliability)[different]
            drops.append(drop)
            truth.append(torch.zeros_like(drop).index_fill_(1, torch.tensor(index), 1))
    auroc = roc_auc_score(torch.cat(truth).flatten().numpy(), torch.cat(drops).flatten().numpy())
    assert auroc > 0.8
    assert accuracy > 0.9
    assert usual.reliability.mean() > 0.8


def alike(batch=12):
    """Return features of one size in three layouts, some of them masked, and what is present."""
    draws = seeding.generator(0, "alike")
    features = {
        "a": torch.randn(batch, 5, 6, generator=draws, dtype=torch.float64),
        "b": torch.randn(batch, 6, 4, generator=draws, dtype=torch.float64),
        "c": torch.randn(batch, 6, 2, 2, generator=draws, dtype=torch.float64),
    }
    masks = {"a": torch.arange(5) < torch.randint(0, 6, (batch, 1), generator=draws)}
    return features, masks, {"b": torch.arange(batch) % 4 > 0}


@pytest.mark.compile
def test_compiled_training_equals_eager_training():
    features, masks, present = alike()
    perturbed = torch.zeros(12, 3, dtype=torch.bool)
    perturbed[6:, 0] = True
    runs = []
    for compiled in (False, True):
        module = ContextualCalibrator(
            dict.fromkeys(features, 6), layouts={"a": "btd", "b": "bdt", "c": "bchw"}, seed=0, dropout=0.0
        ).double()
        module = shake(module).train()
        run = torch.compile(module, fullgraph=True, backend="aot_eager") if compiled else module
        for _ in range(2):  # statistics learn, and the second pass sees what they learnt
            out = run(features, masks, present, perturbed=perturbed, labels=torch.arange(12) % 3)
        loss = out.auxiliary_loss + sum(x.square().sum() for x in out.features.values())
        runs.append((out, torch.autograd.grad(loss, list(module.parameters())), dict(module.named_buffers())))
    torch.compiler.reset()
    (one, ones, buffers), (two, twos, others) = runs
    torch.testing.assert_close(one.reliability, two.reliability)
    torch.testing.assert_close(one.auxiliary_loss, two.auxiliary_loss)
    for gradient, other in zip(ones, twos, strict=True):
        torch.testing.assert_close(gradient, other)
    for name, buffer in buffers.items():
        torch.testing.assert_close(buffer, others[name])


def test_training_saves_no_more_than_features_gates_and_little():
    features = {name: torch.randn(16, 1000, 32).requires_grad_() for name in "abc"}
    module = shake(ContextualCalibrator(dict.fromkeys(features, 32), layouts="btd", seed=0)).train()
    masks = {name: torch.arange(1000) < torch.randint(500, 1001, (16, 1)) for name in features}
    perturbed, saved = torch.zeros(16, 3, dtype=torch.bool), {}
    with saved_tensors_hooks(lambda t: saved.setdefault(t.untyped_storage().data_ptr(), t), lambda t: t):
        module(features, masks, perturbed=perturbed)
    inputs = {x.untyped_storage().data_ptr() for x in features.values()}
    assert inputs <= set(saved)
    rest = sum(t.untyped_storage().nbytes() for key, t in saved.items() if key not in inputs)
    assert rest < 0.25 * features["a"].nbytes


def test_evaluation_makes_no_copy_of_the_features_but_the_result():
    features = {name: torch.randn(16, 400, 64) for name in "abc"}
    module = shake(ContextualCalibrator(dict.fromkeys(features, 64), layouts="btd", seed=0)).eval()
    masks = {name: torch.arange(400) < torch.randint(100, 401, (16, 1)) for name in features}
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as events:
        out = module(features, masks)
    sizes = [event.cpu_memory_usage for event in events.events() if event.name == "[memory]"]
    whole = features["a"].nbytes
    assert sum(size >= whole for size in sizes) <= 3  # the results
    assert max(size for size in sizes if size < whole) <= ops.BLOCK
    assert all(x.nbytes == whole for x in out.features.values())


def with_classes(sizes=THREE, **options):
    return ContextualCalibrator(sizes, layouts="bd", classes=4, seed=0, **options)


def test_untrained_unimodal_predictions_leave_the_features_as_they_are():
    features = {name: x.float() for name, x in vectors(THREE).items()}
    for module in (with_classes().eval(), with_classes(perturbation=False).train()):
        out = module(features, labels=torch.arange(8) % 4)
        assert all(torch.equal(out.features[name], x) for name, x in features.items())


@pytest.mark.parametrize("count", [3, 7])
def test_unimodal_predictions_do_not_depend_on_the_order_of_the_modalities(count):
    sizes = {f"m{n}": 3 + n for n in range(count)}
    features = vectors(sizes)
    one = shake(with_classes(sizes)).eval()(features)
    other = shake(with_classes(dict(reversed(sizes.items())))).eval()(features)
    torch.testing.assert_close(one.reliability, other.reliability.flip(1))


def test_unimodal_predictions_learn_from_clean_modalities_alone():
    module = with_classes(agreement_weight=0.0, clean_weight=0.0, dropout=0.0).double().train()
    shake(module.unimodal)
    features, labels = vectors(THREE), torch.arange(8) % 4
    perturbed = torch.zeros(8, 3, dtype=torch.bool)
    perturbed[:4, 1] = True
    present = {"vision": torch.arange(8) != 7}
    out = module(features, labels=labels, perturbed=perturbed, present=present)
    losses = []
    for index, name in enumerate(THREE):
        known = module.unimodal[name](module.standardise[name](features[name])).log_softmax(1)
        for row in range(8):
            if not perturbed[row, index] and (name != "vision" or row != 7):
                losses.append(-known[row, labels[row]].item())
    assert len(losses) == 24 - 4 - 1
    assert out.auxiliary_loss.item() == pytest.approx(0.5 * np.mean(losses), rel=1e-6)
    out.auxiliary_loss.backward()
    assert all(weight.grad.abs().sum() > 0 for weight in module.unimodal.parameters())
    assert module.heads["text"].reliability.weight.grad is None  # unimodal predictions teach no head


def test_cues_do_not_teach_unimodal_heads():
    module = shake(with_classes(unimodal_weight=0.0)).train()
    features = {name: x.float() for name, x in vectors(THREE).items()}
    out = module(features, labels=torch.arange(8) % 4)
    (out.auxiliary_loss + sum(x.sum() for x in out.features.values())).backward()
    assert all(weight.grad is None for weight in module.unimodal.parameters())


def test_an_absent_modality_s_prediction_counts_nowhere():
    module = shake(with_classes()).eval()
    features = vectors(THREE)
    present = {"audio": torch.zeros(8, dtype=torch.bool)}
    other = {**features, "audio": 5 * features["audio"]}
    torch.testing.assert_close(module(features, present=present).logits, module(other, present=present).logits)


def test_conflict_with_a_modality_that_knows_little_counts_for_less():
    sure, unsure = (torch.tensor([[[9.0, 0, 0], [0, x, 0]]]).log_softmax(2) for x in (9.0, 0.5))
    here = torch.ones(1, 2, dtype=torch.bool)
    clash, doubt = overlap(sure, here)[0, 0, 1], overlap(unsure, here)[0, 0, 1]
    assert clash < -0.9  # two that are sure contradict each other
    assert doubt > clash + 0.9
    assert certainty(sure, here)[0, 1] > 0.9
    assert certainty(unsure, here)[0, 1] < -0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1}, "classes must be 2 or more, or None; found 1"),
        ({"unimodal_weight": -1.0}, "unimodal_weight must not be negative; found -1.0"),
        ({"classes": 0, "comparison_size": 1}, "comparison_size must be 2 or more; found 1; classes must be 2 or more"),
    ],
)
def test_what_unimodal_predictions_cannot_be_made_with_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        ContextualCalibrator(THREE, **options)


@pytest.mark.parametrize("wrong", [-1, 4])
def test_labels_beyond_the_classes_are_refused(wrong):
    features = {name: x.float() for name, x in vectors(THREE).items()}
    labels = torch.zeros(8, dtype=torch.long).index_fill(0, torch.tensor([3]), wrong)
    with pytest.raises(UsageError, match="labels must lie in 0 to 3, as classes=4 says"):
        with_classes().train()(features, labels=labels)


def test_without_labels_there_are_unimodal_predictions_and_no_loss_of_theirs():
    features = {name: x.float() for name, x in vectors(THREE).items()}
    with_loss, without = (with_classes(unimodal_weight=weight).train() for weight in (0.5, 0.0))
    losses = [module(features, generator=seeding.generator(0)).auxiliary_loss for module in (with_loss, without)]
    assert torch.isfinite(losses[0])


class Reliabilities(nn.Module):
    def __init__(self, calibrate):
        super().__init__()
        self.calibrate = calibrate

    def forward(self, features):
        return self.calibrate(features).reliability


@pytest.mark.compile
def test_unimodal_predictions_can_be_exported():
    module = Reliabilities(shake(with_classes())).eval()
    features = {name: x.float() for name, x in vectors(THREE).items()}
    exported = torch.export.export(module, (features,)).module()
    torch.testing.assert_close(exported(features), module(features))


OLDER = {"judges.": "heads.", "opinions.": "unimodal."}  # the table in docs/method.md


def test_an_older_state_dictionary_loads_by_the_documented_map():
    module = shake(with_classes()).eval()
    older = {}
    for key, value in module.state_dict().items():
        old = next((old for old, new in OLDER.items() if key.startswith(new)), None)
        older[key if old is None else old + key.removeprefix(OLDER[old])] = value
    assert {key.split(".")[0] for key in older} == {"standardise", "standardise_energy", "judges", "opinions"}
    converted = {}
    for key, value in older.items():
        new = next((OLDER[old] + key.removeprefix(old) for old in OLDER if key.startswith(old)), key)
        converted[new] = value
    other = with_classes().eval()
    other.load_state_dict(converted)
    features = {name: x.float() for name, x in vectors(THREE).items()}
    one, two = module(features), other(features)
    assert torch.equal(one.reliability, two.reliability)
    assert all(torch.equal(one.features[name], two.features[name]) for name in THREE)
