import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits as scanned
from sklearn.decomposition import PCA

from concordant.benchmarks.catalogue import prepare
from concordant.benchmarks.small import (
    AV_FILE,
    DIGITS,
    add_noise,
    leading_components,
    load_av_digits,
    load_digits,
    log_mel,
    split_av_digits,
    split_digits,
)


@pytest.fixture(scope="module")
def digits():
    return load_digits(None)


def test_halves_side_by_side_are_the_scanned_image(digits):
    images, labels = scanned(return_X_y=True)
    joined = np.concatenate([digits.inputs["left"], digits.inputs["right"]], 3)
    np.testing.assert_array_equal(joined.reshape(-1, 64), images)
    np.testing.assert_array_equal(digits.labels, labels)
    assert joined.shape == (1797, 1, 8, 8)


def test_profile_is_the_sums_of_rows_and_columns(digits):
    images = scanned().images
    for image, profile in zip(images[:50], digits.inputs["profile"], strict=False):
        assert profile.tolist() == [sum(row) for row in image] + [sum(column) for column in image.T]


def test_everything_is_single_precision_with_the_declared_modalities(digits):
    assert tuple(digits.inputs) == DIGITS.modalities
    assert {x.dtype for x in digits.inputs.values()} == {np.dtype(np.float32)}
    assert digits.labels.dtype == np.int64


def test_parts_are_disjoint_complete_and_stratified(digits):
    parts = split_digits(digits, 0, "random")
    sides = (parts.train, parts.valid, parts.test)
    ids = [name for side in sides for name in side.ids.tolist()]
    assert len(ids) == len(set(ids)) == len(digits)
    assert (len(parts.test), len(parts.valid)) == (360, 216)  # 20 % of all, 15 % of the rest, rounded up
    shares = np.bincount(digits.labels) / len(digits)
    for side in sides:
        np.testing.assert_allclose(np.bincount(side.labels) / len(side), shares, atol=0.01)


def test_rows_stay_together(digits):
    parts = split_digits(digits, 1, "random")
    for side in (parts.train, parts.valid, parts.test):
        rows = np.array([int(name.removeprefix("digit-")) for name in side.ids.tolist()])
        np.testing.assert_array_equal(side.labels, digits.labels[rows])
        for name, x in side.inputs.items():
            np.testing.assert_array_equal(x, digits.inputs[name][rows])


def test_every_seed_has_a_test_part_of_its_own(digits):
    first, again, other = (split_digits(digits, seed, "random") for seed in (0, 0, 1))
    assert first.test.ids.tolist() == again.test.ids.tolist()
    assert first.valid.ids.tolist() == again.valid.ids.tolist()
    assert first.test.ids.tolist() != other.test.ids.tolist()


@pytest.fixture(scope="module")
def raw(data_folder):
    return load_av_digits(data_folder)


@pytest.fixture(scope="module")
def splits(raw):
    return [split_av_digits(raw, seed, "speakers") for seed in (0, 1)]


@settings(deadline=None, max_examples=20)
@given(st.floats(0.05, 0.95), st.integers(0, 99))
def test_leading_components_are_the_fewest_that_hold_the_share(share, seed):
    draws = np.random.default_rng(seed)
    x = (draws.normal(size=(200, 8)) * np.arange(1, 9) + draws.normal(size=8)).astype(np.float32)
    center, components = leading_components(x, share)
    pca = PCA().fit(x.astype(np.float64))
    held = pca.explained_variance_ratio_.cumsum()
    count = len(components)
    assert held[count - 1] >= share - 1e-6
    assert count == 1 or held[count - 2] < share + 1e-6
    np.testing.assert_allclose(center, pca.mean_, atol=1e-5)
    np.testing.assert_allclose(np.abs(components @ pca.components_[:count].T), np.eye(count), atol=1e-3)


@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_noise_is_as_strong_as_the_recording_itself_and_reaches_past_its_end(scale):
    draws = np.random.default_rng(0)
    lengths = np.array([8000, 4000, 1500])
    wavs = (scale * draws.normal(size=(3, 8000)) * (np.arange(8000) < lengths[:, None])).astype(np.float32)
    before = wavs.copy()
    noise = add_noise(wavs, lengths, draws) - wavs
    np.testing.assert_array_equal(wavs, before)
    for signal, added, length in zip(wavs, noise, lengths, strict=True):
        assert 20 * np.log10(signal[:length].std() / added[:length].std()) == pytest.approx(0, abs=0.5)
        assert 20 * np.log10(signal[:length].std() / added.std()) == pytest.approx(0, abs=0.5)
    assert np.abs(np.corrcoef(noise) - np.eye(3)).max() < 0.05


def test_a_silent_recording_gets_no_noise():
    assert not add_noise(np.zeros((1, 80), np.float32), np.array([80]), np.random.default_rng(0)).any()


@pytest.mark.parametrize("frequency", [250, 1000, 3500])
def test_log_mel_shows_a_tone_in_the_band_of_its_frequency(frequency):
    time = np.arange(8000) / 8000
    tone = np.sin(2 * np.pi * frequency * time).astype(np.float32)
    maps = log_mel(np.stack([tone, np.zeros_like(tone), np.where(time < 0.5, tone, 0)]))
    assert maps.shape == (3, 1, 32, 40)
    assert maps.dtype == np.float32
    # Slaney's mel scale: linear up to 1 kHz, logarithmic above; the bands' centres are evenly spaced on it.
    mel = frequency / (200 / 3) if frequency < 1000 else 15 + 27 * np.log(frequency / 1000) / np.log(6.4)
    top = 15 + 27 * np.log(4) / np.log(6.4)
    assert abs(maps[0, 0, :, 20].argmax() - (mel / top * 33 - 1)) <= 1
    np.testing.assert_allclose(maps[1], np.log(1e-6), rtol=1e-6)
    np.testing.assert_allclose(maps[2, 0, :, 2:19], maps[0, 0, :, 2:19], atol=0.1)
    np.testing.assert_allclose(maps[2, 0, :, 22:], np.log(1e-6), rtol=1e-6)


@pytest.mark.data
def test_speakers_are_disjoint_and_three_train_one_validates_two_test(splits):
    for parts in splits:
        sides = (parts.train, parts.valid, parts.test)
        speakers = [set(side.groups.tolist()) for side in sides]
        assert [len(some) for some in speakers] == [3, 1, 2]
        assert len(set.union(*speakers)) == 6
        assert [len(side) for side in sides] == [1500, 500, 1000]
        assert len({name for side in sides for name in side.ids.tolist()}) == 3000
        assert all(
            name.startswith(f"{label}_{speaker}_")
            for side in sides
            for name, label, speaker in zip(side.ids, side.labels, side.groups, strict=True)
        )
        assert all(np.bincount(side.labels).tolist() == [len(side) // 10] * 10 for side in sides)


@pytest.mark.data
def test_other_seeds_have_other_speakers_other_pairs_and_other_noise(splits, raw):
    speakers = [tuple(sorted(set(part.groups.tolist())) for part in (s.train, s.valid, s.test)) for s in splits]
    assert speakers[0] != speakers[1]
    shared = sorted(set(splits[0].train.ids.tolist()) & set(splits[1].train.ids.tolist()))
    assert shared
    rows = [np.searchsorted(s.train.ids, shared, sorter=np.argsort(s.train.ids)) for s in splits]
    rows = [np.argsort(s.train.ids)[r] for s, r in zip(splits, rows, strict=True)]
    for name in ("audio", "image"):
        first, second = (s.train.inputs[name][r] for s, r in zip(splits, rows, strict=True))
        assert (first != second).any((1, 2, 3)).mean() > 0.95


@pytest.mark.data
def test_no_image_is_used_twice_within_a_seed_and_each_shows_the_spoken_digit(splits, raw):
    pools = [
        {image.tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
        for images, labels in zip(raw.images, raw.image_labels, strict=True)
    ]
    for parts in splits:
        used = {
            side: [x.tobytes() for x in getattr(parts, side).inputs["image"]] for side in ("train", "valid", "test")
        }
        assert len({image for images in used.values() for image in images}) == 3000
        for side, pool in (("train", pools[0]), ("valid", pools[0]), ("test", pools[1])):
            assert [pool[image] for image in used[side]] == getattr(parts, side).labels.tolist()


@pytest.mark.data
def test_images_keep_a_quarter_of_their_variance_and_one_component_fewer_would_keep_less(raw, data_folder):
    with np.load(data_folder / AV_FILE) as archive:
        x = archive["image_train"].reshape(-1, 784) / np.float32(255)
    left = raw.images[0].reshape(-1, 784)
    total, covariance = x.var(0, dtype=np.float64).sum(), np.cov(left, rowvar=False)
    variances = np.sort(np.linalg.eigvalsh(covariance))[::-1]
    count = int((variances > 1e-6 * variances[0]).sum())
    assert variances.sum() / total >= 0.25
    assert variances[: count - 1].sum() / total < 0.25
    best = PCA(count, svd_solver="covariance_eigh").fit(x)
    assert variances.sum() == pytest.approx(best.explained_variance_.sum(), rel=0.01)  # no components hold more


@pytest.mark.data
def test_components_come_from_images_of_all_digits(raw):
    images, labels = raw.images[1].reshape(-1, 784), raw.image_labels[1]
    means = np.stack([images[labels == label].mean(0) for label in range(10)])
    centred = means - means.mean(0)
    variances = np.linalg.svd(centred, compute_uv=False) ** 2
    assert variances[1] > 0.2 * variances[0]  # the digits do not lie on a line


@pytest.mark.data
def test_recordings_and_noise_have_the_same_power_on_the_recordings_own_samples(raw):
    rows = np.arange(0, 3000, 60)
    wavs, lengths = raw.wavs[rows], raw.lengths[rows]
    assert lengths.max() <= 8000
    noise = add_noise(wavs, lengths, np.random.default_rng(0)) - wavs
    for signal, added, length in zip(wavs, noise, lengths, strict=True):
        ratio = 10 * np.log10(np.mean(signal[:length] ** 2) / np.mean(added[:length] ** 2))
        assert ratio == pytest.approx(0, abs=0.5)


@pytest.mark.data
def test_recordings_lie_within_one_and_are_silent_past_their_end(raw):
    assert 0.5 < np.abs(raw.wavs).max() <= 1
    assert raw.lengths.max() == 8000
    assert not raw.wavs[np.arange(8000) >= raw.lengths[:, None]].any()


@pytest.mark.data
def test_shapes_are_those_of_maps(splits):
    for parts in splits:
        for side in (parts.train, parts.valid, parts.test):
            assert side.inputs["audio"].shape == (len(side), 1, 32, 40)
            assert side.inputs["image"].shape == (len(side), 1, 28, 28)
            assert all(x.dtype == np.float32 and np.isfinite(x).all() for x in side.inputs.values())
        assert parts.layouts == {"audio": "bchw", "image": "bchw"}


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "images", "classes", "prefix"), [("scene15", 4485, 15, "scene-"), ("handwritten", 2000, 10, "digit-")]
)
def test_split_is_stratified_and_scaled_on_the_training_part(data_folder, name, images, classes, prefix):
    task = prepare(name, seed=0, data=data_folder)
    parts = (task.train, task.valid, task.test)
    ids = [image for part in parts for image in part.ids.tolist()]
    assert len(ids) == len(set(ids)) == images
    assert len(task.test) == images // 5
    assert len(task.classes) == classes
    with np.load(data_folder / f"{name}.npz") as archive:
        labels, views = archive["label"], {view: archive[view] for view in task.layouts}
    for part in parts:
        rows = np.array([int(image.removeprefix(prefix)) for image in part.ids.tolist()])
        np.testing.assert_array_equal(part.labels, labels[rows])
        np.testing.assert_allclose(np.bincount(part.labels) / len(part), np.bincount(labels) / images, atol=0.01)
    train = np.array([int(image.removeprefix(prefix)) for image in task.train.ids.tolist()])
    test = np.array([int(image.removeprefix(prefix)) for image in task.test.ids.tolist()])
    for view, x in views.items():
        mean, std = x[train].mean(0, dtype=np.float64), x[train].std(0, dtype=np.float64)
        expected = ((x[test] - mean) / std).clip(-6, 6)
        np.testing.assert_allclose(task.test.inputs[view], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.data
@pytest.mark.parametrize("name", ["scene15", "handwritten"])
def test_every_seed_has_other_test_images(data_folder, name):
    first, other = (prepare(name, seed=seed, data=data_folder).test.ids.tolist() for seed in (0, 1))
    assert set(first) != set(other)
