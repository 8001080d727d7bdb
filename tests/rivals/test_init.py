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
    assert len(ABLATIONS) == 12
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
