import pytest
import torch

from concordant.fusion import FUSIONS
from concordant.rivals import CALIBRATORS
from concordant.speed import overhead
from concordant.speed.overhead import (
    ALIGNED,
    BY_FUSION,
    CLEAN,
    SETTINGS,
    VECTORS,
    actions_of,
    configure,
    example,
    fitting,
    measure,
)


def test_every_fusion_has_inputs_of_its_kind():
    assert set(BY_FUSION) == {entry.setting for entry in (FUSIONS[name] for name in FUSIONS)}
    for setting in SETTINGS.values():
        assert set(setting.layouts) == set(setting.shapes)


def test_inputs_have_the_shapes_and_masks_of_their_setting():
    part = example(ALIGNED, instances=9).train
    assert {name: x.shape for name, x in part.inputs.items()} == {
        "text": (9, 50, 300),
        "audio": (9, 50, 5),
        "vision": (9, 50, 20),
    }
    share = {name: mask.mean() for name, mask in part.masks.items()}
    assert all(0.6 < value < 0.9 for value in share.values())
    assert not example(VECTORS, instances=3).train.masks


def test_only_late_fusions_are_timed_with_what_needs_one():
    late = {name for name in CALIBRATORS if CALIBRATORS[name].late}
    assert late
    assert late <= set(fitting("lf-dnn"))
    assert not late & set(fitting("tfn"))
    assert fitting("tfn")[0] == "none"


@pytest.mark.parametrize("phase", ["train", "inference"])
def test_actions_do_what_they_say(phase, monkeypatch):
    seen = []
    forward = overhead.MultimodalModel.forward

    def watched(self, *given, **options):
        out = forward(self, *given, **options)
        seen.append((type(self.calibrator).__name__, self.training, len(out.logits), out.logits.requires_grad))
        return out

    monkeypatch.setattr(overhead.MultimodalModel, "forward", watched)
    config = configure(VECTORS, "lf-dnn", "small")
    actions = actions_of(VECTORS, config, ["none", "context"], phase)
    for action in actions.values():
        action()
    if phase == "train":
        assert list(actions) == ["none", "context", CLEAN]
        rows = 2 * config.recipe.batch
        assert seen == [
            ("NoCalibrator", True, rows, True),
            ("ContextualCalibrator", True, rows, True),
            ("NoCalibrator", True, config.recipe.batch, True),
        ]
    else:
        assert seen == [
            ("NoCalibrator", False, config.recipe.batch, False),
            ("ContextualCalibrator", False, config.recipe.batch, False),
        ]


def test_training_steps_change_the_weights():
    config = configure(VECTORS, "lf-dnn", "small")
    model = overhead.build_model(example(VECTORS, instances=64), config, overhead.Variant("context", True), 0)
    before = [weight.clone() for weight in model.calibrator.parameters()]
    overhead.training_step(model, example(VECTORS, instances=64), config, perturbed=True)()
    assert not any(torch.equal(one, two) for one, two in zip(before, model.calibrator.parameters(), strict=True))


@pytest.mark.parametrize("phase", ["train", "inference"])
def test_ratios_are_over_the_twin_without_a_calibrator(phase):
    state = torch.get_rng_state()
    found = measure(VECTORS, "lf-dnn", calibrators=["joint", "context"], phase=phase, repetitions=2, seconds=0.0)
    assert torch.equal(torch.get_rng_state(), state)
    by_name = {one.calibrator: one for one in found}
    assert list(by_name) == ["none", "joint", "context", *([CLEAN] if phase == "train" else [])]
    assert by_name["none"].ratio.median == 1
    record = by_name["context"].record()
    assert {key: record[key] for key in ("setting", "fusion", "preset", "calibrator", "phase")} == {
        "setting": "vectors",
        "fusion": "lf-dnn",
        "preset": "small",
        "calibrator": "context",
        "phase": phase,
    }
    assert record["ratio_low"] <= record["ratio"] <= record["ratio_high"]
    assert record["milliseconds"] == pytest.approx(1e3 * by_name["context"].seconds.median, abs=1e-3)
