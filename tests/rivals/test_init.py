import pytest
import torch

from concord.calibration.base import Calibrator
from concord.calibration.calibrator import ContextualCalibrator
from concord.errors import UsageError
from concord.rivals import CALIBRATORS, JointGate, NoCalibrator, SelfGate

SIZES = {"text": 768, "audio": 74, "vision": 35}


def parameters(name, **options):
    return sum(p.numel() for p in CALIBRATORS[name].build(SIZES, **options).parameters())


def test_registry_holds_ours_and_the_rivals():
    built = {name: CALIBRATORS[name].build for name in CALIBRATORS}
    assert built == {"none": NoCalibrator, "self": SelfGate, "joint": JointGate, "context": ContextualCalibrator}


@pytest.mark.parametrize("name", list(CALIBRATORS))
def test_every_entry_builds_from_sizes_and_says_what_it_is(name):
    entry = CALIBRATORS[name]
    module = entry.build(SIZES)
    assert isinstance(module, Calibrator)
    assert entry.summary
    out = module({name: torch.randn(3, size) for name, size in SIZES.items()})
    assert out.reliability.shape == (3, 3)


def test_unknown_calibrator_lists_the_choices():
    with pytest.raises(UsageError, match="unknown calibrator 'mmtm'; choose from: none, self, joint, context"):
        CALIBRATORS["mmtm"]


@pytest.mark.parametrize("layouts", ["auto", "bd"])
def test_parameter_counts_are_of_one_order(layouts):
    ours = parameters("context", layouts=layouts)
    assert parameters("none", layouts=layouts) == 0
    assert 0.9 < parameters("self", layouts=layouts) / ours < 1
    assert 1 < parameters("joint", layouts=layouts) / ours < 2.5


def test_parameter_counts_are_what_the_equations_say():
    S, D, M, K = 2 * sum(SIZES.values()), sum(SIZES.values()), 3, 32
    heads = K * D + D  # A
    cues = 2 + 1 + 6 + 2  # cosines with the others, between them, energies, indicators
    context = S * K + M * K + M * (cues + 1) * K + M * (K + 2 + 1) * 16 + M * (K + 16 + 1) + heads
    assert parameters("context") == context
    assert parameters("self") == (S + 2 * M) * K + M * K + M * (K + 1) + heads
    assert parameters("joint") == M * ((S + 2 * M) * K + K + K + 1) + heads
