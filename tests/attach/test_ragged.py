"""Rows that hold several instances: packed sequences, and different numbers of rows by the caller's counts."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from concordant import UsageError, attach, fit_plugin
from concordant.attach.ragged import Rows

COUNTS = [2, 6, 1, 3]
B, N = len(COUNTS), sum(COUNTS)


def changed(attached):
    with torch.no_grad():
        for parameter in attached.calibrator.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return attached


class Packed(nn.Module):
    """Two recurrent encoders of packed sequences."""

    def __init__(self, order="given"):
        super().__init__()
        self.a, self.v, self.head = nn.GRU(5, 4, batch_first=True), nn.GRU(7, 4, batch_first=True), nn.Linear(8, 3)
        self.order = order

    def forward(self, a, v, lengths):
        pooled = []
        for encoder, x in ((self.a, a), (self.v, v)):
            if self.order == "list":
                packed = pack_sequence([one[:n] for one, n in zip(x, lengths, strict=True)], enforce_sorted=False)
            else:
                packed = pack_padded_sequence(x, lengths, True, enforce_sorted=self.order == "sorted")
            padded, _ = pad_packed_sequence(encoder(packed)[0], True)
            pooled.append(padded.sum(1))
        return self.head(torch.cat(pooled, 1))


@pytest.mark.parametrize("order", ["given", "sorted", "list"])
@pytest.mark.parametrize("tap", ["", "[0]", "[0][data]", "[0][0]"])
def test_a_packed_sequence_is_calibrated_as_sequences_of_its_lengths(order, tap):
    torch.manual_seed(0)
    lengths = torch.tensor([6, 3, 2, 1] if order == "sorted" else COUNTS)
    model, a, v = Packed(order).eval(), torch.randn(B, 6, 5), torch.randn(B, 6, 7)
    attached = attach(model, {"a": f"a{tap}", "v": f"v{tap}"}, example=(a, v, lengths), seed=0).eval()
    assert attached.calibrator.sizes == {"a": 4, "v": 4}
    assert torch.equal(attached(a, v, lengths), model(a, v, lengths))
    out = changed(attached)(a, v, lengths)
    mask = torch.arange(6) < lengths[:, None]
    features = {}
    for name, x in (("a", a), ("v", v)):
        packed = pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        features[name] = pad_packed_sequence(model.get_submodule(name)(packed)[0], True)[0]
    expected = attached.calibrator(features, masks={"a": mask, "v": mask})
    torch.testing.assert_close(attached.calibration.reliability, expected.reliability)
    pooled = [(expected.features[name] * mask[..., None]).sum(1) for name in "av"]
    torch.testing.assert_close(out, model.head(torch.cat(pooled, 1)))
    attached.train()
    (attached(a, v, lengths).sum() + attached.auxiliary_loss()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_copies_of_a_packed_sequence_are_refused_and_fitted_without_its_head():
    torch.manual_seed(0)
    inputs = torch.randn(B, 6, 5), torch.randn(B, 6, 7), torch.tensor(COUNTS)
    attached = attach(Packed(), {"a": "a", "v": "v"}, example=inputs, copies=True, seed=0).train()
    with pytest.raises(UsageError, match=r"copies=True cannot double the packed sequence of 'a'.*copies=False"):
        attached(*inputs)
    fitted = fit_plugin(Packed(), [(inputs, torch.arange(B))], {"a": "a", "v": "v"}, steps=3)
    assert fitted(*inputs).shape == (B, 3)


class Pictures(nn.Module):
    """Words, and the patches of each instance's pictures, of all instances one after another."""

    def __init__(self, encoder=None, form="counts"):
        super().__init__()
        self.text, self.image, self.head = nn.Embedding(9, 4), encoder or nn.Linear(5, 4), nn.Linear(8, 3)
        self.count, self.form = nn.Identity(), form

    def forward(self, words, patches, counts, more=None):
        counts = counts if more is None else more["counts"]
        if self.form == "offsets":
            counts = counts.diff()
        elif self.form == "index":
            counts = counts.bincount(minlength=len(words))
        counts = self.count(torch.as_tensor(counts))
        image = self.image(patches).flatten(2).mean(2) if patches.dim() > 2 else self.image(patches)
        picture = torch.stack([p.sum(0) for p in image.split(counts.tolist())])
        return self.head(torch.cat([self.text(words).mean(1), picture], 1))


def pictures(counts=COUNTS):
    return torch.randint(9, (len(counts), 6)), torch.randn(sum(counts), 5), torch.tensor(counts)


SOURCES = {
    "argument": "counts",
    "position": 2,
    "tap": "count",
    "function": lambda words, patches, counts, more=None: counts,
    "function of a list": lambda words, patches, counts, more=None: counts.tolist(),
    "path": (3, "counts"),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("layout", ["(b t)d", "auto"])
def test_rows_are_calibrated_with_their_instances_by_counts(source, layout):
    torch.manual_seed(0)
    model, taps = Pictures().eval(), {"text": "text", "image": "image"}
    attached = attach(model, taps, layout={"image": layout}, counts={"image": SOURCES[source]}, seed=0).eval()
    for counts in (COUNTS, [1, 0, 5], [3, 3], [2]):
        words, patches, numbers = pictures(counts)
        inputs = (words, patches, numbers, {"counts": numbers} if source == "path" else None)
        expected = model(*inputs)
        if counts == COUNTS:
            assert torch.equal(attached(*inputs), expected)
            changed(attached)
        out = attached(*inputs)
        padded = torch.zeros(len(counts), max(counts), 4)
        mask = torch.arange(max(counts)) < numbers[:, None]
        padded[mask] = model.image(patches)
        made = attached.calibrator({"text": model.text(words), "image": padded}, masks={"image": mask})
        torch.testing.assert_close(attached.calibration.reliability, made.reliability)
        assert attached.calibration.present[:, 1].tolist() == [n > 0 for n in counts]
        pooled = [made.features["text"].mean(1), (made.features["image"] * mask[..., None]).sum(1)]
        torch.testing.assert_close(out, model.head(torch.cat(pooled, 1)))
        attached.train()
        (attached(*inputs).sum() + attached.auxiliary_loss()).backward()
        attached.eval()


def test_maps_and_the_model_s_own_arguments_have_counts_too():
    torch.manual_seed(0)
    model = Pictures(nn.Conv2d(3, 4, 1)).eval()
    words, _, counts = pictures()
    maps = torch.randn(N, 3, 2, 2)
    for layout in ("(b t)chw", "auto"):
        attached = attach(
            model, {"text": "text", "image": "image"}, layout={"image": layout}, counts={"image": "counts"}, seed=0
        ).eval()
        assert torch.equal(attached(words, maps, counts), model(words, maps, counts))
        assert attached.calibration.features["image"].shape == (B, 4, 6, 2, 2)
        changed(attached)(words, maps, counts)
        assert len(attached.calibration.reliability) == B
        attached.detach()


class Given(nn.Module):
    def forward(self, text, patches, counts):
        return text + torch.stack([p.sum(0) for p in patches.split(counts.tolist())])


def test_arguments_that_hold_several_instances_have_counts():
    torch.manual_seed(0)
    inputs = torch.randn(B, 4), torch.randn(N, 4), torch.tensor(COUNTS)
    attached = attach(Given(), {"text": "text", "image": "patches"}, at="", counts={"image": "counts"}, seed=0).eval()
    assert torch.equal(attached(*inputs), Given()(*inputs))
    out, found = changed(attached)(*inputs), attached.calibration.features
    torch.testing.assert_close(out, found["text"] + found["image"].sum(1))
    copied = copy.deepcopy(attached)
    assert torch.equal(copied(*inputs), out)


@pytest.mark.parametrize(
    ("form", "numbers", "how"),
    [
        ("counts", COUNTS, "'counts'"),
        ("offsets", [0, 2, 8, 9, 12], "a function that returns the differences of 'counts'"),
        ("index", [0, 0, 1, 1, 1, 1, 1, 1, 2, 3, 3, 3], "a function that counts 'counts'"),
    ],
)
@pytest.mark.parametrize("listed", [False, True])
def test_rows_are_not_cut_into_equal_parts_where_an_argument_shows_others(form, numbers, how, listed):
    if listed and form != "counts":
        pytest.skip("a tensor")
    words, patches, _ = pictures()
    counts = numbers if listed else torch.tensor(numbers)
    attached = attach(Pictures(form=form), {"text": "text", "image": "image"}, layout={"image": "(b t)d"}, seed=0)
    text = r"the 12 rows of 'image' belong to 4 instances that seem to have \[2, 6, 1, 3\] of them, not 3 each"
    with pytest.raises(UsageError, match=text) as caught:
        attached(words, patches, counts)
    assert str(caught.value).endswith(how)


def test_equal_parts_stay_so_unless_every_batch_so_far_has_shown_the_counts():
    torch.manual_seed(0)
    attached = attach(Pictures(), {"text": "text", "image": "image"}, layout={"image": "(b t)d"}, seed=0).eval()
    attached(*pictures([3, 3, 3, 3]))
    with pytest.raises(UsageError, match=r"seem to have \[2, 6, 1, 3\]"):
        attached(*pictures())

    class Lengths(nn.Module):
        """The third argument is the length of the words, which may add up to the number of frames."""

        def __init__(self):
            super().__init__()
            self.text, self.image = nn.Embedding(9, 4), nn.Linear(5, 4)

        def forward(self, words, frames, lengths):
            return self.text(words).mean(1) + self.image(frames).unflatten(0, (len(words), -1)).mean(1)

    attached = attach(Lengths(), {"text": "text", "image": "image"}, layout={"image": "(b t)d"}, seed=0).eval()
    attached(torch.randint(9, (4, 6)), torch.randn(12, 5), torch.tensor([6, 6, 5, 4]))
    assert attached(torch.randint(9, (4, 6)), torch.randn(12, 5), torch.tensor(COUNTS)).shape == (4, 4)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([2, 6, 1, 4], r"counts\['image'\] must add up to the rows of the feature, 12; found 13 for 4 instances"),
        ([2.0, 6.0, 1.0, 3.0], r"must be whole numbers, one per instance; found a tensor of torch.float32"),
        ([3, 11, -2, 0], r"must be whole numbers, .* with negative ones"),
        ([[3], [9]], r"must be whole numbers, one per instance; found .*shape \(2, 1\)"),
        ("many", r"must be whole numbers, one per instance; found 'many'"),
        ([4, 4, 4], r"the same batch size"),
    ],
)
def test_counts_that_do_not_fit_are_refused(counts, message):
    with pytest.raises(UsageError, match=message):
        attach(Pictures(), {"text": "text", "image": "image"}, counts={"image": lambda *_: counts})(*pictures())


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (
            {"image": "other"},
            r"counts\['image'\] is 'other', which the call of the model does not have",
        ),
        ({"image": 2.5}, r"counts\['image'\] must be an argument of the model, a tap, or a function"),
        ({"sound": "counts"}, r"counts names 'sound', which taps does not; the modalities are text, image"),
        ("counts", r"counts must be a dictionary from modality to an argument of the model, a tap, or a function"),
    ],
)
def test_sources_of_counts_that_do_not_exist_are_refused(counts, message):
    with pytest.raises(UsageError, match=message):
        attach(Pictures(), {"text": "text", "image": "image"}, counts=counts)(*pictures())


@pytest.mark.parametrize("layout", ["btd", "bd", "bdt"])
def test_layouts_of_rows_of_several_instances(layout):
    taps = {"text": "text", "image": "image"}
    attached = attach(Pictures(), taps, layout={"image": layout}, counts={"image": "counts"}, seed=0)
    if layout == "btd":  # what it is once padded
        assert attached(*pictures()).shape == (B, 3)
    else:
        with pytest.raises(UsageError, match=r"layout\['image'\] must be \(b t\)d, .* or auto"):
            attached(*pictures())


def test_copies_behind_counts_are_one_sentence():
    attached = attach(
        Pictures(), {"text": "text", "image": "image"}, counts={"image": "counts"}, copies=True, example=pictures()
    ).train()
    with pytest.raises(UsageError, match="copies=True gives the rest of the model 2B rows"):
        attached(*pictures())
    batches = [(pictures(), torch.arange(B))]
    fitted = fit_plugin(Pictures(), batches, {"text": "text", "image": "image"}, counts={"image": "counts"}, steps=3)
    assert fitted(*pictures()).shape == (B, 3)


def test_rows_return_where_they_came_from():
    x = torch.randn(N, 3)
    for rows in (
        Rows.of_counts(torch.tensor(COUNTS), x),
        Rows.of_packed(pack_sequence(list(x.split(COUNTS)), enforce_sorted=False)),
    ):
        assert rows.valid.sum(1).tolist() == COUNTS
        padded = rows.pad(x)
        assert torch.equal(rows.take(padded), x)
        assert torch.equal(rows.take(torch.cat([padded, padded + 1])), torch.cat([x, x + 1]))
    assert Rows.of_counts(torch.tensor([0, 0]), x[:0]).pad(x[:0]).shape == (2, 3)
