import re
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

from concordant import seeding
from concordant.calibration.perturbation import (
    KINDS,
    Perturbation,
    as_settings,
    perturb,
    repeat_targets,
    vary,
    with_copies,
)
from concordant.errors import UsageError
from concordant.modalities import LAYOUTS, gather, to_positions

SIZES = {"vector": 6, "steps": 3, "image": 2}
LAYOUT = {"vector": "bd", "steps": "bdt", "image": "bchw"}


def example(batch=40, seed=0, *, masked=True, presence=True, **other):
    draws = seeding.generator(seed, "example")
    features = {
        "vector": torch.randn(batch, 6, generator=draws),
        "steps": torch.randn(batch, 3, 5, generator=draws),
        "image": torch.randn(batch, 2, 2, 3, generator=draws),
    }
    mask = torch.rand(batch, 5, generator=draws) < 0.7
    mask[:, 0] = True
    here = torch.rand(batch, generator=draws) < 0.8
    return gather(
        features,
        sizes=SIZES,
        layouts=LAYOUT,
        masks={"steps": mask} if masked else None,
        present={"vector": here} if presence else None,
    )


def flat(batch, name):
    return to_positions(batch.features[name], batch.layouts[name])


def hit_rows(result, name):
    return result.perturbed[:, result.batch.names.index(name)].nonzero().squeeze(1).tolist()


def wide(batch=60, width=4000):
    """Return a batch of wide vectors, in which strength and share can be measured for each instance."""
    draws = seeding.generator(0, "wide")
    features = {name: torch.randn(batch, width, generator=draws) for name in ("a", "b")}
    return gather(features, sizes=dict.fromkeys("ab", width), layouts=dict.fromkeys("ab", "bd"))


def test_one_seed_gives_one_result():
    results = [perturb(example(), Perturbation(), generator=seeding.generator(s)) for s in (1, 1, 2)]
    for name in SIZES:
        assert torch.equal(results[0].batch.features[name], results[1].batch.features[name])
    assert torch.equal(results[0].perturbed, results[1].perturbed)
    assert torch.equal(results[0].kind, results[1].kind)
    assert not torch.equal(results[0].perturbed, results[2].perturbed)


def test_global_generator_is_the_default():
    torch.manual_seed(3)
    first = perturb(example(), Perturbation())
    torch.manual_seed(3)
    assert torch.equal(perturb(example(), Perturbation()).perturbed, first.perturbed)


def test_other_values_suffer_the_same():
    one = perturb(example(seed=0, masked=False, presence=False), Perturbation(), generator=seeding.generator(1))
    two = perturb(example(seed=5, masked=False, presence=False), Perturbation(), generator=seeding.generator(1))
    assert torch.equal(one.perturbed, two.perturbed)
    assert torch.equal(one.kind, two.kind)


def test_at_most_one_present_modality_is_hit_and_nothing_else_changes():
    batch = example(batch=200)
    result = perturb(batch, Perturbation(probability=1), generator=seeding.generator(1))
    several = batch.present.sum(1) > 1
    assert torch.equal(result.perturbed.sum(1), several.long())
    assert not (result.perturbed & ~batch.present).any()
    assert torch.equal(result.kind >= 0, several)
    assert result.batch.masks is batch.masks
    assert result.batch.present is batch.present
    for index, name in enumerate(batch.names):
        kept = ~result.perturbed[:, index]
        assert torch.equal(flat(result.batch, name)[kept], flat(batch, name)[kept])


def test_every_modality_and_kind_gets_its_turn():
    result = perturb(example(batch=1000, presence=False), Perturbation(), generator=seeding.generator(1))
    assert result.kind.add(1).bincount().tolist() == pytest.approx([500, 125, 125, 125, 125], abs=60)
    assert result.perturbed.sum(0).tolist() == pytest.approx([167] * 3, abs=45)


def test_probability_zero_does_nothing():
    batch = example()
    result = perturb(batch, Perturbation(probability=0))
    assert not result.perturbed.any()
    assert (result.kind == -1).all()
    for name in SIZES:
        assert torch.equal(result.batch.features[name], batch.features[name])


def test_argument_overrides_the_probability():
    result = perturb(example(presence=False), Perturbation(probability=0), probability=1.0)
    assert result.perturbed.any(1).all()


def test_instances_with_one_modality_are_spared():
    x = torch.randn(8, 6)
    gone = torch.zeros(8, dtype=torch.bool)
    batch = gather({"vector": x, "steps": torch.randn(8, 3, 5)}, sizes=SIZES, layouts=LAYOUT, present={"steps": gone})
    result = perturb(batch, Perturbation(probability=1))
    assert not result.perturbed.any()
    assert torch.equal(result.batch.features["vector"], x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["btd", "bdt", "tbd", "bchw", "bcthw"])
def test_padded_positions_stay_as_they_are(kind, layout):
    sizes = {"b": 6, "t": 4, "d": 3, "c": 3, "h": 2, "w": 2}
    x = torch.randn([sizes[letter] for letter in layout])
    mask = torch.rand([6, *(x.shape[axis] for axis in LAYOUTS[layout].positions)]) < 0.5
    mask[:, 0] = True
    batch = gather(
        {"a": x, "b": torch.randn(6, 2)},
        sizes={"a": 3, "b": 2},
        layouts={"a": layout, "b": "bd"},
        masks={"a": mask},
    )
    result = perturb(batch, Perturbation(probability=1, kinds=(kind,)), generator=seeding.generator(2))
    before, after = flat(batch, "a"), flat(result.batch, "a")
    assert torch.equal(after[~batch.masks["a"]], before[~batch.masks["a"]])
    rows = result.perturbed[:, 0]
    assert rows.any()
    valid = batch.masks["a"][rows]
    assert not torch.equal(after[rows][valid], before[rows][valid])


def test_zero_leaves_a_thousandth_of_the_feature():
    batch = example()
    result = perturb(batch, Perturbation(probability=1, kinds=("zero",)), generator=seeding.generator(1))
    for name in SIZES:
        for row in hit_rows(result, name):
            valid = batch.masks[name][row] if name in batch.masks else slice(None)
            torch.testing.assert_close(flat(result.batch, name)[row][valid], 1e-3 * flat(batch, name)[row][valid])


def vanishing(x, layout):
    """Return which positions of a feature have squares whose sum is 0 in the feature's own precision, (B, L)."""
    return to_positions(x, LAYOUTS[layout]).square().sum(2) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize("masked", [False, True])
def test_no_kind_makes_a_norm_of_zero(dtype, scale, rows, masked):
    draws = seeding.generator(0, "norms")
    features = {
        "vector": torch.randn(rows, 6, generator=draws),
        "one": 1 + torch.rand(rows, 1, generator=draws),
        "steps": torch.randn(rows, 3, 5, generator=draws),
        "image": torch.randn(rows, 2, 2, 3, generator=draws),
    }
    features = {name: (scale * x).to(dtype) for name, x in features.items()}
    layouts = {**LAYOUT, "one": "bd"}
    masks = {"steps": torch.arange(5) < torch.randint(1, 6, (rows, 1), generator=draws)} if masked else None
    batch = gather(features, sizes={**SIZES, "one": 1}, layouts=layouts, masks=masks)
    for kind in KINDS:
        for _ in range(5):
            result = perturb(batch, Perturbation(kinds=(kind,)), probability=1.0, generator=draws)
            assert result.perturbed.sum() == rows
            for name, layout in layouts.items():
                x = result.batch.features[name]
                assert x.dtype == dtype
                assert not vanishing(x, layout).any(), (kind, name)


@pytest.mark.parametrize("masked", [False, True])
def test_an_instance_swapped_with_an_empty_one_is_scaled_down_instead(masked):
    steps = torch.randn(4, 3, 5)
    steps[1:] = 0
    mask = torch.tensor([[1, 1, 0, 0, 0]] + 3 * [[1, 1, 1, 1, 0]]).bool()
    batch = gather(
        {"vector": torch.randn(4, 6), "steps": steps},
        sizes=SIZES,
        layouts=LAYOUT,
        masks={"steps": mask} if masked else None,
    )
    for seed in range(20):
        made = perturb(batch, Perturbation(kinds=("swap",)), probability=1.0, generator=seeding.generator(seed))
        x = made.batch.features["steps"]
        if made.perturbed[0, 1]:
            valid = mask[0] if masked else slice(None)
            torch.testing.assert_close(x[0][:, valid], 1e-3 * steps[0][:, valid])
            assert torch.equal(x[0][:, ~mask[0]], steps[0][:, ~mask[0]]) or not masked
        empty = made.perturbed[1:, 1] & ~made.perturbed[0, 1]
        assert empty.any() or seed < 19


def test_an_empty_instance_stays_empty_where_nothing_is_swapped_in():
    batch = gather(
        {"a": torch.zeros(3, 4), "b": torch.randn(3, 4)}, sizes={"a": 4, "b": 4}, layouts={"a": "bd", "b": "bd"}
    )
    made = perturb(batch, Perturbation(kinds=("zero",)), probability=1.0, generator=seeding.generator(0))
    assert made.perturbed[:, 0].any()
    assert (made.batch.features["a"] == 0).all()


def test_swap_takes_another_present_instance():
    batch = example(batch=60)
    result = perturb(batch, Perturbation(probability=1, kinds=("swap",)), generator=seeding.generator(1))
    for name in SIZES:
        x, taken = flat(batch, name), flat(result.batch, name)
        rows = hit_rows(result, name)
        assert len(rows) > 5
        masks = batch.masks.get(name, torch.ones(x.shape[:2], dtype=torch.bool))
        for row in rows:
            length = int(masks[row].sum())
            found = taken[row][masks[row]]
            donors = []
            for other in range(batch.size):
                if other == row or not batch.column(name)[other]:
                    continue
                steps = x[other][masks[other]]
                cycled = steps[torch.arange(length) % len(steps)]
                donors += [other] if torch.equal(found, cycled) else []
            assert len(donors) == 1


def test_every_other_instance_can_be_the_donor():
    x = torch.arange(5.0).unsqueeze(1)
    batch = gather({"a": x, "b": x}, sizes={"a": 1, "b": 1}, layouts={"a": "bd", "b": "bd"})
    draws, donors = seeding.generator(0), set()
    for _ in range(60):
        result = perturb(batch, Perturbation(probability=1, kinds=("swap",)), generator=draws)
        donors |= {(row, int(result.batch.features["a"][row, 0])) for row in hit_rows(result, "a")}
    assert donors == {(i, j) for i in range(5) for j in range(5) if i != j}


def test_swap_without_another_instance_becomes_noise():
    here = torch.tensor([True, False, False])
    batch = gather(
        {"vector": torch.ones(3, 6), "steps": torch.ones(3, 3, 5)},
        sizes=SIZES,
        layouts=LAYOUT,
        present={"vector": here},
    )
    made = {}
    for kind in ("swap", "noise"):
        made[kind] = perturb(
            batch, Perturbation(kinds=(kind,)), probability=1.0, generator=seeding.generator(1)
        ).batch.features["vector"]
    assert torch.equal(made["swap"], made["noise"])
    # A single instance has no standard deviation; noise is measured by the size of its features, here 1.
    assert 0.2 < (made["swap"][0] - 1).std() < 4


def test_noise_has_the_drawn_strength_of_each_feature():
    batch = wide()
    result = perturb(batch, Perturbation(probability=1, kinds=("noise",)), generator=seeding.generator(1))
    strengths = []
    for name in "ab":
        x = batch.features[name].double().numpy()
        added = (result.batch.features[name].double().numpy() - x) / x.std(0)
        strengths += added[hit_rows(result, name)].std(1).tolist()
    assert len(strengths) == 60
    low, high = [s for s in strengths if s < 1.5], [s for s in strengths if s > 1.5]
    assert min(low) > 0.5 * 0.95
    assert max(low) < 1.25 * 1.05
    assert min(high) > 1.75 * 0.95
    assert max(high) < 2.5 * 1.05
    assert len(low) == pytest.approx(30, abs=12)


def test_padding_and_absence_do_not_enter_the_spread():
    draws = seeding.generator(0, "spread")
    x = 100 + torch.randn(40, 6, 200, generator=draws)
    mask = torch.arange(6) < torch.randint(1, 4, (40, 1), generator=draws)
    batch = gather(
        {"a": x, "b": torch.randn(40, 3)},
        sizes={"a": 200, "b": 3},
        layouts={"a": "btd", "b": "bd"},
        masks={"a": mask},
        present={"a": torch.arange(40) % 4 > 0},
    )
    settings = Perturbation(probability=1, kinds=("noise",), strength=((1.0, 1.0),))
    result = perturb(batch, settings, generator=draws)
    for row in hit_rows(result, "a"):
        added = (result.batch.features["a"] - x)[row][mask[row]]
        assert added.std().item() == pytest.approx(1, abs=0.2)


def test_dimensions_replaces_the_drawn_share_around_the_mean():
    batch = wide()
    for name in "ab":
        batch.features[name] += 100  # replaced features forget their own value but keep the mean
    result = perturb(batch, Perturbation(probability=1, kinds=("dimensions",)), generator=seeding.generator(1))
    shares = []
    for name in "ab":
        x, after = batch.features[name], result.batch.features[name]
        for row in hit_rows(result, name):
            changed = after[row] != x[row]
            shares.append(changed.double().mean().item())
            assert after[row][changed].mean().item() == pytest.approx(100, abs=0.5)
            assert abs(np.corrcoef(after[row][changed], x[row][changed])[0, 1]) < 0.3
    assert len(shares) == 60
    low, high = [s for s in shares if s < 0.5], [s for s in shares if s > 0.5]
    assert min(low) > 0.07
    assert max(low) < 0.43
    assert min(high) > 0.57
    assert max(high) < 0.83
    assert len(low) == pytest.approx(36, abs=12)  # the lower range is the wider: 0.3 of 0.5


@pytest.mark.parametrize(("ranges", "middle"), [(((1.0, 1.0),), None), (((1.0, 1.0), (2.0, 2.0)), 1.5)])
def test_ranges_may_be_single_values(ranges, middle):
    batch = wide(batch=30)
    settings = Perturbation(probability=1, kinds=("noise",), strength=ranges)
    result = perturb(batch, settings, generator=seeding.generator(1))
    strengths = []
    for index, name in enumerate("ab"):
        x = batch.features[name]
        added = (result.batch.features[name] - x) / x.std(0, correction=0)
        strengths += added[result.perturbed[:, index]].std(1).tolist()
    assert all(min(abs(s - low) for low, _ in ranges) < 0.1 for s in strengths)
    if middle is not None:
        assert min(strengths) < middle < max(strengths)


@pytest.mark.parametrize("kind", ["noise", "dimensions"])
@pytest.mark.parametrize("coherent", [0, 1])
def test_coherent_noise_is_one_draw_for_all_positions(kind, coherent):
    draws = seeding.generator(0, "coherent")
    level = torch.randn(20, 1, 8, generator=draws)
    features = {name: level.expand(20, 5, 8).clone() for name in "ab"}
    batch = gather(features, sizes={"a": 8, "b": 8}, layouts={"a": "btd", "b": "btd"})
    settings = Perturbation(probability=1, kinds=(kind,), coherent=coherent, share=((0.5, 0.5),))
    result = perturb(batch, settings, generator=draws)
    x, made = batch.features["a"], result.batch.features["a"]
    for row in hit_rows(result, "a"):
        changed = made[row] != x[row]  # (T, D)
        assert torch.equal(changed, changed[:1].expand(5, 8))  # the same features at every position
        moves = (made[row] - x[row])[:, changed[0]]
        same = torch.allclose(moves, moves[:1].expand_as(moves), atol=1e-6)
        assert same == bool(coherent) or not changed.any()


def test_absent_values_have_no_influence():
    batch = example(batch=50)
    away = ~batch.column("vector")
    assert away.any()
    spoilt = example(batch=50)
    spoilt.features["vector"][away] = float("nan")
    spoilt.features["steps"].transpose(1, 2)[~spoilt.masks["steps"]] = float("inf")
    settings = Perturbation(probability=1)
    one = perturb(batch, settings, generator=seeding.generator(1)).batch
    two = perturb(spoilt, settings, generator=seeding.generator(1)).batch
    assert torch.equal(one.features["vector"][~away], two.features["vector"][~away])
    assert torch.equal(flat(one, "steps")[batch.masks["steps"]], flat(two, "steps")[batch.masks["steps"]])
    assert torch.equal(one.features["image"], two.features["image"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype):
    batch = example()
    for name in SIZES:
        batch.features[name] = batch.features[name].to(dtype)
    result = perturb(batch, Perturbation(probability=1))
    assert all(x.dtype == dtype for x in result.batch.features.values())


def test_gradients_flow_through_what_is_left():
    batch = example(batch=30)
    for name in SIZES:
        batch.features[name].requires_grad_()
    result = perturb(batch, Perturbation(probability=1), generator=seeding.generator(1))
    sum(x.square().sum() for x in result.batch.features.values()).backward()
    for name in SIZES:
        assert batch.features[name].grad.isfinite().all()
        assert batch.features[name].grad.abs().sum() > 0


def test_copies_are_the_clean_batch_and_a_hit_one():
    batch = example(presence=False)
    result = with_copies(batch, Perturbation(probability=0.1), generator=seeding.generator(1))
    made = perturb(batch, Perturbation(), probability=1.0, generator=seeding.generator(1))
    size = batch.size
    assert result.batch.size == 2 * size
    for name in SIZES:
        axis = batch.layouts[name].batch
        first, second = result.batch.features[name].split(size, axis)
        assert torch.equal(first, batch.features[name])
        assert torch.equal(second, made.batch.features[name])
    assert not result.perturbed[:size].any()
    assert result.perturbed[size:].any(1).all()
    assert (result.kind[:size] == -1).all()
    assert torch.equal(result.kind[size:], made.kind)
    assert torch.equal(result.batch.masks["steps"], batch.masks["steps"].repeat(2, 1))
    assert torch.equal(result.batch.present, batch.present.repeat(2, 1))


def test_varied_features_are_scaled_and_moved_at_all_positions_alike():
    batch = example(batch=2000)
    varied = vary(batch, 0.5, generator=seeding.generator(1))
    assert torch.equal(varied.present, batch.present)
    for name in SIZES:
        x, y = flat(batch, name), flat(varied, name)
        valid = batch.column(name)[:, None].expand(x.shape[:2])
        if name in batch.masks:
            valid = valid & batch.masks[name]
        assert torch.equal(y[~valid], x[~valid])
        std = x[valid].std(0, correction=0)
        if x.shape[1] == 1:  # one position: (v a) x + v b std, independent of x
            rms = (y - x)[valid].square().mean(0)
            torch.testing.assert_close(rms, 0.25 * (x[valid].square().mean(0) + std**2), rtol=0.15, atol=0)
            continue
        for row in (valid.sum(1) >= 3).nonzero().squeeze(1)[:200].tolist():  # a line through its positions
            a, b = x[row, valid[row]], y[row, valid[row]]
            slope = ((a - a.mean(0)) * (b - b.mean(0))).sum(0) / (a - a.mean(0)).square().sum(0)
            torch.testing.assert_close(b, b.mean(0) + slope * (a - a.mean(0)), rtol=1e-3, atol=1e-4)
    assert vary(batch, 0.0) is batch


def test_variation_counts_as_clean_and_both_copies_show_it():
    batch, settings = example(presence=False), Perturbation(variation=0.5)
    result = with_copies(batch, settings, generator=seeding.generator(1))
    draws = seeding.generator(1)
    varied = vary(batch, 0.5, generator=draws)
    made = perturb(varied, Perturbation(), probability=1.0, generator=draws)
    for name in SIZES:
        first, second = result.batch.features[name].split(batch.size, batch.layouts[name].batch)
        assert torch.equal(first, varied.features[name])
        assert torch.equal(second, made.batch.features[name])
    assert not result.perturbed[: batch.size].any()
    mixed = perturb(batch, settings, probability=0.0, generator=seeding.generator(1))
    assert not mixed.perturbed.any()
    assert torch.equal(mixed.batch.features["image"], varied.features["image"])


def test_settings_of_a_calibrator_without_perturbation_are_refused():
    with pytest.raises(UsageError, match=r"must be a Perturbation, .* found None: pass Perturbation\(\)"):
        with_copies(example(), None)


def test_copies_find_the_batch_axis():
    x = torch.randn(5, 3, 4)
    batch = gather({"a": x, "b": torch.randn(3, 2)}, sizes={"a": 4, "b": 2}, layouts={"a": "tbd", "b": "bd"})
    copies = with_copies(batch, Perturbation()).batch.features["a"]
    assert copies.shape == (5, 6, 4)
    assert torch.equal(copies[:, :3], x)


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 4)])
def test_repeat_targets_repeats_the_batch(shape):
    x = torch.randn(shape)
    assert torch.equal(repeat_targets(x), torch.cat([x, x]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"probability": 1.5}, "probability must lie in [0, 1]; found 1.5"),
        ({"coherent": -1}, "coherent must lie in [0, 1]; found -1"),
        ({"probability": float("nan")}, "probability must lie in [0, 1]; found nan"),
        ({"variation": -0.1}, "variation must not be negative; found -0.1"),
        ({"kinds": ("blur",)}, "kinds must be some of noise, swap, zero, dimensions; found ['blur']"),
        ({"kinds": ()}, "kinds must be some of noise, swap, zero, dimensions; found ()"),
        ({"strength": ()}, "strength must be ranges (low, high) with 0 <= low <= high; found ()"),
        ({"strength": ((2, 1),)}, "strength must be ranges (low, high) with 0 <= low <= high; found ((2, 1),)"),
        ({"share": ((-1, 1),)}, "share must be ranges (low, high) with 0 <= low <= high; found ((-1, 1),)"),
        ({"share": ((0.1, 0.2, 0.3),)}, "share must be ranges (low, high) with 0 <= low <= high"),
    ],
)
def test_perturbation_refuses(given, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        Perturbation(**given)


def test_perturbation_says_all_faults_at_once():
    with pytest.raises(UsageError) as caught:
        Perturbation(probability=2, coherent=3, kinds=("x",), strength=(), share=())
    for name in ("probability", "coherent", "kinds", "strength", "share"):
        assert f"{name} must" in str(caught.value)


def test_default_strengths_leave_out_what_the_stress_test_uses():
    settings = Perturbation()
    assert not any(low < 1.75 and high > 1.25 for low, high in settings.strength)
    assert not any(low < 0.6 and high > 0.4 for low, high in settings.share)


def test_perturbation_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Perturbation().probability = 1


def test_settings_from_what_a_constructor_was_given():
    mine = Perturbation(probability=0.1)
    assert as_settings(mine) is mine
    assert as_settings(True) == Perturbation()
    assert as_settings(False) is None
    assert as_settings(None) is None
    with pytest.raises(UsageError, match=re.escape("perturbation must be True, False, None or a Perturbation")):
        as_settings({"probability": 1})
