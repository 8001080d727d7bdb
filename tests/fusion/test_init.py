import pytest
import torch

from concordant.fusion import FUSIONS, FeatureSpec, Fusion
from concordant.modalities import LAYOUTS
from concordant.rivals import CALIBRATORS

B, C = 4, 5
SHAPES = {  # layout -> shape with 6 features
    "bd": (B, 6),
    "btd": (B, 7, 6),
    "bdt": (B, 6, 3),
    "tbd": (5, B, 6),
    "bchw": (B, 6, 4, 3),
    "bcthw": (B, 6, 2, 3, 2),
}
MIXES = [
    ("bd", "bd"),
    ("btd", "btd", "btd"),
    ("bchw", "bchw"),
    ("bd", "btd", "bchw"),
    ("bdt", "tbd", "bcthw", "bchw", "bd"),
]

every_fusion = pytest.mark.parametrize("fusion", FUSIONS)
every_mix = pytest.mark.parametrize("mix", MIXES, ids="-".join)


def build(fusion, mix, *, order=None):
    """Return a fusion of modalities m0, m1, ... with the layouts of the mix, and their features."""
    names = [f"m{i}" for i in range(len(mix))]
    draws = torch.Generator().manual_seed(7)
    features = {n: torch.randn(SHAPES[layout], generator=draws) for n, layout in zip(names, mix, strict=True)}
    layouts = dict(zip(names, mix, strict=True))
    torch.manual_seed(0)
    specs = {name: FeatureSpec(6, LAYOUTS[layouts[name]]) for name in order or names}
    entry = FUSIONS[fusion]
    return entry.build(specs, classes=C, dropout=0.1, **entry.small).eval(), features


def positions_of(mix):
    counts = []
    for layout in mix:
        shape = SHAPES[layout]
        counts.append(torch.Size([shape[axis] for axis in LAYOUTS[layout].positions]).numel())
    return counts


def keep(here, x, layout):
    """Return a (B,) tensor in a shape that broadcasts over the layout."""
    return here.view([B if axis == LAYOUTS[layout].batch else 1 for axis in range(x.dim())])


def test_entries_are_complete():
    assert len(FUSIONS) == 18
    for entry in (FUSIONS[name] for name in FUSIONS):
        assert entry.setting in ("vector", "sequence", "convolutional")
        assert issubclass(entry.build, Fusion)
        assert entry.summary
        assert "\n" not in entry.summary
        assert len(entry.summary) < 100
        assert entry.paper
        assert "dropout" not in entry.small
        assert entry.points in (("features",), ("maps",), ("maps", "pooled"))


@every_fusion
@every_mix
def test_modalities_of_all_layouts_give_one_row_of_logits_per_instance(fusion, mix):
    model, features = build(fusion, mix)
    logits = model(features, {}, {})
    assert logits.shape == (B, C)
    assert logits.isfinite().all()
    for name in features:
        other = {**features, name: features[name] + 1}
        assert not torch.allclose(model(other, {}, {}), logits)


@every_fusion
@every_mix
def test_gradients_reach_all_features_and_weights(fusion, mix):
    model, features = build(fusion, mix)
    model.train()
    features = {name: x.requires_grad_() for name, x in features.items()}
    ((model(features, {}, {}) ** 2).sum() + model.auxiliary_loss(torch.arange(B))).backward()
    assert all(x.grad.isfinite().all() and x.grad.abs().sum() > 0 for x in features.values())
    still = {name for name, weight in model.named_parameters() if weight.grad.abs().sum() == 0}
    # Recurrent weights have no gradient in sequences of one step.
    vectors = [f".m{number}." for number, layout in enumerate(mix) if layout == "bd"]
    if set(mix) == {"bd"}:
        vectors += ["lstm.", "retain."]
    assert {name for name in still if not ("hh" in name or "retain" in name)} == set()
    assert all(any(part in f".{name}" for part in vectors) for name in still)


@every_fusion
@every_mix
def test_masks_and_presence_that_are_true_everywhere_change_nothing(fusion, mix):
    model, features = build(fusion, mix)
    counts = positions_of(mix)
    masks = {name: torch.ones(B, count, dtype=torch.bool) for name, count in zip(features, counts, strict=True)}
    present = {name: torch.ones(B, dtype=torch.bool) for name in features}
    torch.testing.assert_close(model(features, masks, present), model(features, {}, {}))


@every_fusion
@pytest.mark.parametrize(("layout", "axis"), [("btd", 1), ("bdt", 2), ("tbd", 0)])
def test_masked_steps_appended_to_a_sequence_change_nothing(fusion, layout, axis):
    mix = ("bd", layout, "bchw")
    model, features = build(fusion, mix)
    length = SHAPES[layout][axis]
    shape = [3 if i == axis else size for i, size in enumerate(SHAPES[layout])]
    mask, expected = torch.arange(length + 3).expand(B, -1) < length, model(features, {}, {})
    for value in (1e3, float("nan")):
        longer = torch.cat([features["m1"], torch.full(shape, value)], axis)
        found = model({**features, "m1": longer}, {"m1": mask}, {})
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@every_fusion
@every_mix
def test_values_at_masked_positions_have_no_influence(fusion, mix):
    model, features = build(fusion, mix)
    draws = torch.Generator().manual_seed(3)
    masks, spoilt = {}, {}
    for (name, x), layout, count in zip(features.items(), mix, positions_of(mix), strict=True):
        spoilt[name] = x
        if layout == "bd":
            continue
        masks[name] = torch.rand(B, count, generator=draws) < 0.6
        masks[name][:, 0] = True
        where = LAYOUTS[layout]
        order = (where.batch, *where.positions, where.feature)
        moved = masks[name].reshape([x.shape[axis] for axis in order[:-1]]).unsqueeze(-1)
        shaped = moved.permute([order.index(axis) for axis in range(x.dim())])
        spoilt[name] = torch.where(shaped, x, torch.nan)
    torch.testing.assert_close(model(spoilt, masks, {}), model(features, masks, {}))
    if masks:
        assert not torch.allclose(model(features, masks, {}), model(features, {}, {}))


@every_fusion
@every_mix
def test_values_of_absent_modalities_have_no_influence(fusion, mix):
    model, features = build(fusion, mix)
    layouts = dict(zip(features, mix, strict=True))
    present = {name: torch.arange(B) % len(mix) != number for number, name in enumerate(features)}
    found = model(features, {}, present)
    for value in (-50.0, float("nan"), float("inf")):
        spoilt = {n: torch.where(keep(present[n], x, layouts[n]), x, value) for n, x in features.items()}
        torch.testing.assert_close(model(spoilt, {}, present), found)
    whole = torch.stack(list(present.values())).all(0)
    plain = model(features, {}, {})
    torch.testing.assert_close(found[whole], plain[whole])
    assert not torch.allclose(found[~whole], plain[~whole])


@every_fusion
@every_mix
def test_one_modality_alone_or_none_gives_finite_logits(fusion, mix):
    model, features = build(fusion, mix)
    for kept in (*features, None):
        present = {name: torch.full((B,), name == kept) for name in features}
        logits = model(features, {}, present)
        assert logits.isfinite().all()
        assert torch.allclose(logits, logits[:1].expand(B, -1)) == (kept is None)


@every_fusion
@pytest.mark.parametrize("mix", MIXES[1:], ids="-".join)
def test_a_modality_without_a_valid_position_counts_as_absent(fusion, mix):
    model, features = build(fusion, mix)
    nothing = torch.zeros(B, positions_of(mix)[1], dtype=torch.bool)
    absent = model(features, {}, {"m1": torch.zeros(B, dtype=torch.bool)})
    torch.testing.assert_close(model(features, {"m1": nothing}, {}), absent)


@every_fusion
@every_mix
def test_instances_do_not_influence_each_other_when_evaluating(fusion, mix):
    model, features = build(fusion, mix)
    present = {name: torch.arange(B) != number for number, name in enumerate(features)}
    logits = model(features, {}, present)
    for row in range(B):
        alone = {
            name: x.narrow(LAYOUTS[layout].batch, row, 1)
            for (name, x), layout in zip(features.items(), mix, strict=True)
        }
        here = {name: column[row : row + 1] for name, column in present.items()}
        torch.testing.assert_close(model(alone, {}, here), logits[row : row + 1], rtol=1e-4, atol=1e-5)


@every_fusion
@every_mix
def test_the_declared_order_of_modalities_has_no_influence(fusion, mix):
    model, features = build(fusion, mix)
    other, _ = build(fusion, mix, order=list(reversed(features)))
    turned = dict(reversed(features.items()))
    assert torch.equal(other(turned, {}, {}), model(features, {}, {}))


@every_fusion
def test_dropout_acts_in_training_alone(fusion):
    model, features = build(fusion, ("bd", "btd"))
    assert torch.equal(model(features, {}, {}), model(features, {}, {}))
    model.train()
    assert not torch.equal(model(features, {}, {}), model(features, {}, {}))


@every_fusion
@every_mix
def test_bfloat16_works_in_training(fusion, mix):
    model, features = build(fusion, mix)
    model = model.to(torch.bfloat16).train()
    features = {name: x.to(torch.bfloat16) for name, x in features.items()}
    present = {name: torch.arange(B) != number for number, name in enumerate(features)}
    logits = model(features, {}, present)
    assert logits.dtype == torch.bfloat16
    (logits.float().square().sum() + model.auxiliary_loss(torch.arange(B))).backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())


@every_fusion
def test_torch_export_gives_equal_logits(fusion):
    mix = MIXES[2 if FUSIONS[fusion].setting == "convolutional" else 1]
    model, features = build(fusion, mix)
    masks = {name: torch.rand(B, count) < 0.9 for name, count in zip(features, positions_of(mix), strict=True)}
    present = {name: torch.arange(B) != number for number, name in enumerate(features)}
    program = torch.export.export(model, (features, masks, present), strict=False)
    torch.testing.assert_close(program.module()(features, masks, present), model(features, masks, present))


@every_fusion
def test_the_medium_preset_gives_logits(fusion):
    if fusion in ("mbt", "perceiver"):
        pytest.skip("hundreds of MB: counted by the catalogue, on the meta device")
    specs = {"a": FeatureSpec(6, LAYOUTS["bchw"]), "b": FeatureSpec(6, LAYOUTS["btd"])}
    model = FUSIONS[fusion].build(specs, classes=C).eval()
    assert model({"a": torch.randn(B, 6, 4, 3), "b": torch.randn(B, 7, 6)}, {}, {}).shape == (B, C)


IDENTICAL = [name for name in CALIBRATORS if CALIBRATORS[name].identity]


POINTS = [(name, point) for name in FUSIONS for point in FUSIONS[name].points]


@pytest.mark.parametrize(("fusion", "point"), POINTS)
@every_mix
def test_an_untrained_calibrator_changes_no_bit_and_leaves_the_head_alone(fusion, mix, point):
    entry = FUSIONS[fusion]
    model, features = build(fusion, mix)
    if point != entry.points[0]:
        model = entry.build(model.specs, classes=C, dropout=0.1, at=point, **entry.small).eval()
    before = dict(model.named_parameters())
    present = {name: torch.arange(B) != number for number, name in enumerate(features)}
    expected, complete = model(features, {}, present), model(features, {}, {})
    sizes = {name: spec.size for name, spec in model.meeting.items()}
    layouts = {name: spec.layout.name for name, spec in model.meeting.items()}
    for name in IDENTICAL:
        given = {"classes": C} if CALIBRATORS[name].classes else {}
        calibrator = CALIBRATORS[name].build(sizes, layouts=layouts, **given).eval()
        for here, logits in ((present, expected), ({}, complete)):
            met, masks = model.encode(features, {}, here)
            batch = calibrator.gather(met, masks, here)
            found = calibrator(batch)
            known = {} if found.all_present else {one: batch.column(one) for one in batch.names}
            assert torch.equal(model.join(found.features, batch.masks, known), logits), name
    after = dict(model.named_parameters())
    assert before.keys() == after.keys()
    assert all(after[key] is weight for key, weight in before.items())


@every_fusion
@pytest.mark.parametrize("layout", SHAPES)
def test_one_modality_is_enough(fusion, layout):
    model, features = build(fusion, (layout,))
    logits = model(features, {}, {})
    assert logits.shape == (B, C)
    assert not torch.allclose(logits[0], logits[1])
    nowhere = {"m0": torch.zeros(B, dtype=torch.bool)}
    assert model(features, {}, nowhere).isfinite().all()
    model.train()
    loss = model(features, {}, {}).square().sum() + model.auxiliary_loss(torch.arange(B))
    loss.backward()
    assert loss.isfinite()
