import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.benchmarks.benchmark import Waves
from concordant.data.scaling import fit
from concordant.errors import UsageError
from concordant.robustness.corrupting import Ground, check_kinds, corrupt_part, victims
from concordant.robustness.corruptions import KINDS
from concordant.robustness.own_data import as_part


def some_part(count=60, seed=0, **more):
    draws = np.random.default_rng(seed)
    x = {
        "v": draws.standard_normal((count, 6)),
        "s": draws.standard_normal((count, 10, 3)),
        "m": draws.standard_normal((count, 1, 8, 8)),
    }
    return as_part(x, np.arange(count) % 3, **more)


LAYOUTS = {"v": "bd", "s": "btd", "m": "bchw"}


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_one_present_modality_of_every_instance_is_hit_where_two_are_there(seed):
    draws = np.random.default_rng(seed)
    present = {name: draws.random(60) < 0.7 for name in ("v", "m")}
    part = some_part(present=present)
    here = np.stack([present["v"], np.ones(60, bool), present["m"]], 1)
    hit = victims(part, ("v", "s", "m"), seed)
    assert not (hit & ~here).any()
    assert np.array_equal(hit.sum(1), (here.sum(1) > 1).astype(int))
    only = victims(part, ("m",), seed)
    assert np.array_equal(only.any(1), present["m"] & (here.sum(1) > 1))
    assert np.array_equal(victims(part, ("v", "s", "m"), seed), hit)


def test_what_is_not_hit_stays_as_it_is_and_padding_too():
    masks = {"s": np.arange(10) < np.random.default_rng(1).integers(3, 11, (60, 1))}
    part = some_part(masks=masks)
    part.inputs["s"][~masks["s"]] = 7.0  # whatever padding holds stays
    for name in KINDS:
        kind = KINDS[name]
        able = Ground(LAYOUTS).able(kind, part.shapes)
        if not able:
            assert kind.group == "audio"
            continue
        hit = victims(part, able, 0)
        found = corrupt_part(part, kind, kind.severities[-1], Ground(LAYOUTS), seed=0, hit=hit).part
        for column, modality in enumerate(part.inputs):
            before, after = part.inputs[modality], found.inputs[modality]
            assert np.array_equal(after[~hit[:, column]], before[~hit[:, column]]), name
            if modality in able and kind.name != "same-class-swap":
                assert not np.array_equal(after, before), name
        assert (found.inputs["s"][~masks["s"]] == 7.0).all(), name


def test_valid_steps_that_are_not_the_leading_ones_are_found():
    mask = np.zeros((60, 10), bool)
    mask[:, 4:9] = True
    part = some_part(masks={"s": mask})
    kind = KINDS["time-masking"]
    hit = victims(part, ("s",), 0)
    found = corrupt_part(part, kind, 0.9, Ground(LAYOUTS), seed=0, hit=hit).part.inputs["s"]
    zero = (found == 0).all(2)
    assert not zero[~mask].any()
    assert (zero[:, 4:9].sum(1) >= 4).all()


def test_values_that_are_not_standardised_are_corrupted_in_their_own_units():
    part = some_part()
    wide = part.with_inputs({**part.inputs, "v": (part.inputs["v"] * 50 + 1000).astype(np.float32)})
    scales = {"v": fit(wide.inputs["v"], "bd")}
    hit = victims(part, ("v",), 0)
    kind = KINDS["gaussian-noise"]
    found = corrupt_part(wide, kind, 1.5, Ground(LAYOUTS, scales=scales), seed=0, hit=hit).part.inputs["v"]
    moved = (found - wide.inputs["v"])[hit[:, 0]]
    # Noise is 1.5 standard deviations of each feature, which is about 75 here.
    assert moved.std() == pytest.approx(1.5 * wide.inputs["v"].std(0).mean(), rel=0.1)
    clipped = corrupt_part(wide, KINDS["clipping"], 0.25, Ground(LAYOUTS, scales=scales), seed=0, hit=hit).part
    bound = scales["v"].mean + 0.25 * scales["v"].std
    assert (clipped.inputs["v"][hit[:, 0]] <= bound * (1 + 1e-5)).all()


def test_draws_are_the_same_at_every_severity_and_for_every_model():
    part = some_part()
    kind = KINDS["gaussian-noise"]
    hit = victims(part, ("v",), 3)
    low, high = (
        corrupt_part(part, kind, severity, Ground(LAYOUTS), seed=3, hit=hit).part.inputs["v"] - part.inputs["v"]
        for severity in (0.25, 3.0)
    )
    assert high == pytest.approx(12 * low, abs=1e-4)


def test_image_kinds_leave_maps_alone_that_are_no_images():
    part = some_part()
    kind = KINDS["blur"]
    assert Ground(LAYOUTS).able(kind, part.shapes) == ("m",)
    assert Ground(LAYOUTS, {"m": "spectrogram"}).able(kind, part.shapes) == ()


def test_audio_kinds_change_the_waveform_behind_a_modality():
    part = some_part(count=6)
    waves = np.random.default_rng(2).standard_normal((6, 800)).astype(np.float32)

    def inputs(changed):
        return changed.reshape(-1, 8, 100).mean(2)[:, None, :, None].repeat(8, 3).astype(np.float32)

    signal = Waves(waves, np.full(6, 800), 8000.0, inputs)
    ground = Ground(LAYOUTS, {"m": "spectrogram"}, signals={"m": signal})
    kind = KINDS["audio-noise"]
    assert ground.able(kind, part.shapes) == ("m",)
    hit = victims(part, ("m",), 0)
    found = corrupt_part(part, kind, 0.0, ground, seed=0, hit=hit).part.inputs["m"]
    clean = inputs(waves)
    assert not np.allclose(found, clean)
    assert np.allclose(found, clean, atol=1.0)


def test_kinds_are_chosen_by_name():
    assert [kind.name for kind in check_kinds(["swap", "blur", "swap"], KINDS)] == ["swap", "blur"]
    assert len(check_kinds(None, KINDS)) == len(list(KINDS)) >= 12
    with pytest.raises(UsageError, match="unknown corruption 'fog', 'rain'; choose from: gaussian-noise"):
        check_kinds(["fog", "swap", "rain"], KINDS)
    with pytest.raises(UsageError, match=r"unknown corruption \(none named\)"):
        check_kinds([], KINDS)
