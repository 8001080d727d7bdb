import numpy as np
import pytest
import torch

from concordant.calibration.base import Calibrator
from concordant.calibration.calibrator import ContextualCalibrator
from concordant.errors import UsageError
from concordant.modalities import LAYOUTS
from concordant.rivals import ABLATIONS, CALIBRATORS

SIZES = {"text": 768, "audio": 74, "vision": 35}


MIXED = {  # modality -> layout and shape with 4 instances
    "vector": ("bd", (4, 6)),
    "steps": ("btd", (4, 7, 5)),
    "channels": ("bdt", (4, 4, 3)),
    "first": ("tbd", (5, 4, 3)),
    "image": ("bchw", (4, 2, 3, 4)),
    "video": ("bcthw", (4, 3, 2, 3, 2)),
}


def build(name, sizes=SIZES, **options):
    entry = CALIBRATORS[name]
    return entry.build(sizes, **{**entry.options, **({"classes": 3} if entry.classes else {}), **options})


def parameters(name, **options):
    return sum(p.numel() for p in build(name, **options).parameters())


def mixed(dtype=torch.float32):
    draws = torch.Generator().manual_seed(0)
    features = {name: torch.randn(shape, generator=draws).to(dtype) for name, (_, shape) in MIXED.items()}
    layouts = {name: layout for name, (layout, _) in MIXED.items()}
    sizes = {name: shape[LAYOUTS[layout].feature] for name, (layout, shape) in MIXED.items()}
    return features, sizes, layouts


def test_the_registry_lists_ours_and_the_rivals():
    assert list(CALIBRATORS) == [
        *("none", "self", "joint", "gmu", "modality-dropout", "uncertainty"),
        *("evidential", "evidential-conflict", "aecf", "attention", "context"),
    ]
    assert CALIBRATORS["context"].build is ContextualCalibrator
    assert all(CALIBRATORS[name].paper for name in CALIBRATORS if name != "none")


def test_ablations_are_registered_but_not_listed():
    assert len(ABLATIONS) == 13
    assert [name for name in ABLATIONS if not CALIBRATORS[name].unimodal] == ["context-no-opinions"]
    for name in (*ABLATIONS, "after-fusion"):
        assert name in CALIBRATORS
        assert name not in list(CALIBRATORS)
        assert CALIBRATORS[name].stream == "context"
    assert [name for name in ABLATIONS if not CALIBRATORS[name].perturbed] == ["context-no-perturbation"]


every = pytest.mark.parametrize("name", list(CALIBRATORS))


@every
def test_every_entry_builds_from_sizes(name):
    module = build(name)
    assert isinstance(module, Calibrator)
    assert 0 < len(CALIBRATORS[name].summary) < 100
    out = module({name: torch.randn(3, size) for name, size in SIZES.items()})
    assert out.reliability.shape == (3, 3)
    assert (out.decision is not None) == CALIBRATORS[name].late


@pytest.mark.parametrize("name", [name for name in CALIBRATORS if CALIBRATORS[name].identity])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("missing", [False, True], ids=["all", "some absent"])
def test_an_untrained_rival_passes_features_of_every_layout_on_bit_for_bit(name, dtype, missing):
    features, sizes, layouts = mixed(dtype)
    present = {one: torch.arange(4) != index for index, one in enumerate(features)} if missing else None
    out = build(name, sizes, layouts=layouts).eval()(features, present=present)
    for one, x in features.items():
        assert torch.equal(out.features[one], x)


@every
def test_gradients_of_every_weight_are_finite_with_modalities_absent(name):
    features, sizes, layouts = mixed()
    module = build(name, sizes, layouts=layouts).train()
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    features = {one: x.requires_grad_() for one, x in features.items()}
    present = {one: torch.arange(4) != index for index, one in enumerate(features)}
    present["video"] = torch.zeros(4, dtype=torch.bool)
    for _ in range(2):  # the running statistics learn from the first pass
        out = module(features, present=present, labels=torch.arange(4) % 3, perturbed=torch.zeros(4, 6).bool())
    loss = out.auxiliary_loss + sum(x.square().sum() for x in out.features.values())
    if out.decision is not None:
        loss = loss + out.decision.square().sum()
    loss.backward()
    assert all(x.grad.isfinite().all() for x in features.values())
    for weight_name, weight in module.named_parameters():
        assert weight.grad is not None, weight_name
        assert weight.grad.isfinite().all(), weight_name


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_kept(name, dtype):
    features = {one: torch.randn(5, size).to(dtype).requires_grad_() for one, size in SIZES.items()}
    module = build(name).train()
    out = module(features, labels=torch.arange(5) % 3)
    assert all(out.features[one].dtype == dtype for one in features)
    total = out.auxiliary_loss + sum(x.float().square().sum() for x in out.features.values())
    total.backward()
    assert all(x.grad.isfinite().all() for x in features.values())


@every
def test_instances_do_not_influence_each_other_when_predicting(name):
    module = build(name).eval()
    features = {one: torch.randn(5, size) for one, size in SIZES.items()}
    whole = module(features)
    for row in range(5):
        alone = module({one: x[row : row + 1] for one, x in features.items()})
        for one in features:
            torch.testing.assert_close(alone.features[one][0], whole.features[one][row])
        torch.testing.assert_close(alone.reliability[0], whole.reliability[row])


def test_unknown_calibrator_lists_the_choices():
    with pytest.raises(UsageError, match="unknown calibrator 'mmtm'; choose from: none, self, joint, gmu"):
        CALIBRATORS["mmtm"]


@pytest.mark.parametrize("layouts", ["auto", "bd"])
def test_parameter_counts_are_of_one_order(layouts):
    ours = parameters("context", layouts=layouts)
    assert parameters("none", layouts=layouts) == 0
    assert 0.9 < parameters("self", layouts=layouts) / ours < 1
    assert 1 < parameters("joint", layouts=layouts) / ours < 2.5
    assert 0.6 < parameters("attention", layouts=layouts) / ours < 1.1


def test_parameter_counts_follow_the_equations():
    S, D, M, K = 2 * sum(SIZES.values()), sum(SIZES.values()), 3, 32
    heads = K * D + D  # A
    cues = 2 + 1 + 6 + 2  # cosines with the others, between them, energies, indicators
    context = S * K + M * K + M * (cues + 1) * K + M * (K + 2 + 1) * 16 + M * (K + 16 + 1) + heads
    assert parameters("context") == context
    assert parameters("self") == (S + 2 * M) * K + M * K + M * (K + 1) + heads
    assert parameters("joint") == M * ((S + 2 * M) * K + K + K + 1) + heads


# Arguments of every type

WRONG = (torch.tensor(0.1), torch.zeros(2), np.zeros(3), "0.1", None, 1j, [1], True, float("nan"), float("inf"))
NUMBERS = {"dropout": 0.5, "clean_weight": 1, "agreement_weight": 1, "unimodal_weight": 1, "hidden": 8, "mask": 0.5}
NUMBERS |= {"target": 0.5, "entropy_weight": 1, "probability": 0.5, "task_weight": 1, "rank_weight": 1, "annealing": 9}
NUMBERS |= {"temperature": 2, "comparison_size": 8, "classes": 3, "seed": 4}


def accepted(name, option):
    try:
        build(name, **{option: NUMBERS[option]})
    except TypeError:
        return False
    return True


@pytest.mark.parametrize("name", [*CALIBRATORS, "context-no-gates"])
def test_arguments_of_wrong_types_are_refused_in_one_sentence(name):
    for option in filter(lambda option: accepted(name, option), NUMBERS):
        for value in WRONG:
            if value is None and option in ("seed", "classes"):
                continue
            with pytest.raises(UsageError) as caught:
                build(name, **{option: value})
            assert str(caught.value).startswith(f"{option} must"), (option, value)
            assert "\n" not in str(caught.value)
            assert len(str(caught.value)) < 200
    for option, value in {"layouts": 3, "nonfinite": torch.zeros(2), "perturbation": np.zeros(2), "sizes": [3]}.items():
        with pytest.raises(UsageError, match=f"^{option} must") as caught:
            build(name, **{option: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*CALIBRATORS, "context-no-gates"])
def test_numbers_of_numpy_are_taken(name):
    for option in filter(lambda option: accepted(name, option), NUMBERS):
        kind = np.int64 if isinstance(NUMBERS[option], int) else np.float32
        build(name, **{option: kind(NUMBERS[option])})
    with pytest.raises(UsageError, match=r"must be a positive integer, the feature size; found np\.float64\(3\.0\)"):
        build(name, {"text": np.float64(3.0), "audio": 4})
    sizes = {"text": np.int64(4), "audio": np.uint8(3)}
    module = build(name, sizes).train()
    assert all(type(size) is int for size in module.sizes.values())
    features = {one: np.random.default_rng(0).normal(size=(5, size)) for one, size in module.sizes.items()}
    present = {"text": np.arange(5) > 1}
    torch.manual_seed(0)
    found = module(features, present=present, labels=np.arange(5) % 3, perturbed=np.zeros((5, 2), bool))
    torch.manual_seed(0)
    again = build(name, sizes).train()
    again.load_state_dict(module.state_dict())
    assert all(isinstance(x, torch.Tensor) for x in found.features.values())
    assert found.features["text"].dtype == torch.float64
    reversed_ = {one: x[::-1] for one, x in features.items()}
    module.eval()(reversed_, {}, {"text": present["text"][::-1]})


@every
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64, torch.float32, torch.bool])
def test_labels_are_any_integers_in_range(name, dtype):
    module = build(name, {"text": 4, "audio": 3}, **({"classes": 3} if CALIBRATORS[name].unimodal else {})).train()
    features = {"text": torch.randn(5, 4), "audio": torch.randn(5, 3)}
    labels = torch.tensor([0, 1, 2, 0, 1]).to(dtype)
    if dtype in (torch.float32, torch.bool):
        with pytest.raises(UsageError, match=r"labels must be class indices, integers of shape \(5,\); found torch\."):
            module(features, labels=labels)
        return
    assert module(features, labels=labels).auxiliary_loss.isfinite()
    for wrong in ([0, 1, 2, 3, 9], [0, 1, 2, -1, -100]):
        if module.classes is None:
            assert module(features, labels=torch.tensor(wrong)).auxiliary_loss.isfinite()
            continue
        with pytest.raises(UsageError, match=r"labels must lie in 0 to 2, as classes=3 says; found -?\d+ to \d"):
            module(features, labels=torch.tensor(wrong))


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_another_default_precision_works(name, dtype):
    torch.set_default_dtype(dtype)
    try:
        module = build(name, {"text": 4, "audio": 3}).train()
        for _ in range(2):
            features = {"text": 300 * torch.randn(5, 7, 4), "audio": torch.randn(5, 3, requires_grad=True)}
            out = module(features, labels=torch.arange(5) % 3)
            (out.auxiliary_loss + sum(x.float().mean() for x in out.features.values())).backward()
    finally:
        torch.set_default_dtype(torch.float32)
    assert out.auxiliary_loss.isfinite()
    assert all(x.dtype == dtype and x.isfinite().all() for x in out.features.values())
    assert all(x.isfinite().all() and x.dtype in (torch.float32, torch.float64, torch.int64) for x in module.buffers())


@every
def test_a_modality_may_be_missing_under_vmap(name):
    module = build(name, {"text": 4, "audio": 3}).eval()
    text, here = torch.randn(2, 5, 4), torch.zeros(2, 5, dtype=torch.bool)
    found = torch.func.vmap(lambda x, here: module({"text": x}, present={"audio": here}).features["text"])(text, here)
    for run in range(2):
        torch.testing.assert_close(found[run], module({"text": text[run]}).features["text"])


@every
def test_one_huge_value_does_not_spoil_the_statistics(name):
    module = build(name, {"text": 4, "audio": 3}, perturbation=False).train()
    for value in (None, 2e19, 1e38):
        features = {"text": torch.randn(64, 4), "audio": torch.randn(64, 3)}
        if value is not None:
            features["text"][0, 0] = value
        out = module(features, labels=torch.arange(64) % 3)
        assert out.auxiliary_loss.isfinite()
        assert all(x.isfinite().all() for x in out.features.values())
    for buffer in module.standardise["text"].buffers():
        assert buffer.abs().max() < 4
