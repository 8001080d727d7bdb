"""Processes make of their splits of a batch what one makes of the whole; here threads stand for processes.

Real processes are started in tests/training/test_distributed.py.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.calibration import Perturbation, with_copies
from concordant.calibration.distributed import Ranks, connected, copies_across, whole_batch
from concordant.calibration.result import Modulation
from concordant.errors import UsageError
from concordant.modalities import LAYOUTS, gather

AXES = {"t": 5, "d": 2, "c": 2, "h": 2, "w": 3}


class Threaded(Ranks):
    """Ranks whose processes are threads: what they send each other lies in a list."""

    def __init__(self, rank, rows, post, barrier, *, whole=True):
        self.whole, self.rank, self.size, self.rows = whole, rank, len(rows), tuple(rows)
        self.post, self.barrier = post, barrier

    def _all(self, mine):
        self.post[self.rank] = mine
        self.barrier.wait(20)
        found = list(self.post)
        self.barrier.wait(20)
        return found

    def exchange(self, numbers, device):
        return self._all(list(numbers))

    def _receive(self, sent):
        return self._all(sent)

    def gather(self, *tensors, through=False):
        return super().gather(*tensors)  # gradients between processes are tested in tests/training/test_distributed.py


def together(rows, work, **options):
    """Return, for each of several processes with so many rows, its place and what it makes by `work(ranks, place)`."""
    post, barrier = [None] * len(rows), Barrier(len(rows))

    def one(rank):
        place = slice(sum(rows[:rank]), sum(rows[: rank + 1]))
        return place, work(Threaded(rank, rows, post, barrier, **options), place)

    with ThreadPoolExecutor(len(rows)) as pool:
        return list(pool.map(one, range(len(rows))))


def draws():
    return torch.Generator().manual_seed(7)


def a_batch(layouts, count, *, masked=(), absent=(), dtype=torch.float32):
    """Return a batch of modalities named by their place, with these layouts."""
    layouts = {str(place): layout for place, layout in enumerate(layouts)}
    features = {
        name: torch.randn([count if axis == "b" else AXES[axis] for axis in layout]).to(dtype)
        for name, layout in layouts.items()
    }
    masks = {name: torch.arange(AXES["t"]) < torch.randint(AXES["t"] + 1, (count, 1)) for name in masked}
    present = {name: torch.rand(count) < 0.7 for name in absent}
    return gather(features, sizes=dict.fromkeys(layouts, 2), layouts=layouts, masks=masks, present=present)


def part_of(batch, rows):
    """Return some rows of a batch."""
    features = {name: taken(x, batch.layouts[name], rows) for name, x in batch.features.items()}
    masks = {name: mask[rows] for name, mask in batch.masks.items()}
    return replace(batch, features=features, masks=masks, present=batch.present[rows])


def taken(x, layout, rows):
    return x.movedim(layout.batch, 0)[rows].movedim(0, layout.batch)


def assert_rows(found, expected, place):
    """Check that a process has its rows of both copies of the whole batch."""
    rows = torch.arange(len(expected.perturbed)).unflatten(0, (2, -1))[:, place].flatten()
    for name, x in found.batch.features.items():
        theirs = taken(expected.batch.features[name], expected.batch.layouts[name], rows)
        torch.testing.assert_close(x, theirs, rtol=1e-5, atol=1e-6)
    assert torch.equal(found.perturbed, expected.perturbed[rows])
    assert torch.equal(found.kind, expected.kind[rows])
    assert torch.equal(found.batch.present, expected.batch.present[rows])
    assert found.batch.layouts == expected.batch.layouts


@st.composite
def cases(draw):
    layouts = draw(st.lists(st.sampled_from(list(LAYOUTS)), min_size=2, max_size=3))
    if draw(st.booleans()):
        layouts = ["bd"] * len(layouts)  # which one process perturbs side by side
    steps = [str(place) for place, layout in enumerate(layouts) if layout in ("btd", "bdt", "tbd")]
    masked = steps if draw(st.booleans()) else ()
    absent = draw(st.sampled_from([(), ("1",), ("0", "1")]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    torch.manual_seed(draw(st.integers(0, 99)))
    rows = draw(st.lists(st.integers(1, 4), min_size=2, max_size=3))
    return rows, a_batch(layouts, sum(rows), masked=masked, absent=absent, dtype=dtype)


@settings(deadline=None, max_examples=20)
@given(cases(), st.sampled_from([0.0, 0.5]))
def test_copies_of_the_parts_are_the_parts_of_the_copies(case, variation):
    rows, batch = case
    perturbation = Perturbation(variation=variation)
    expected = with_copies(batch, perturbation, generator=draws())
    for place, found in together(
        rows, lambda ranks, own: copies_across(part_of(batch, own), perturbation, ranks, generator=draws())
    ):
        assert_rows(found, expected, place)


def test_sequences_are_as_long_as_their_process_has_them():
    rows, batch = (3, 2, 4), a_batch(("btd", "tbd", "bd"), 9, masked=("0",))
    lengths = (5, 2, 4)  # the steps that each process has; there are no others in the whole batch
    ends = torch.tensor(lengths).repeat_interleave(torch.tensor(rows))
    valid = torch.arange(5) < ends[:, None]
    batch = replace(batch, masks={"0": batch.masks["0"] & valid, "1": valid}, all_present=False)
    batch.features["0"][~valid] = 0
    batch.features["1"][~valid.T] = 0
    expected = with_copies(batch, Perturbation(), generator=draws())

    def work(ranks, own):
        mine, length = part_of(batch, own), lengths[ranks.rank]
        features = {**mine.features, "0": mine.features["0"][:, :length], "1": mine.features["1"][:length]}
        mine = replace(mine, features=features, masks={"0": mine.masks["0"][:, :length]})  # of "1" all steps count
        return copies_across(mine, Perturbation(), ranks, generator=draws())

    for rank, (place, found) in enumerate(together(rows, work)):
        length, theirs = lengths[rank], expected.batch.features
        assert found.batch.features["0"].shape[1] == found.batch.features["1"].shape[0] == length
        shorter = {"0": theirs["0"][:, :length], "1": theirs["1"][:length]}
        batch_of = replace(expected.batch, features={**theirs, **shorter})
        assert_rows(found, replace(expected, batch=batch_of), place)


def test_processes_that_look_at_their_own_rows_alone_tell_each_other_nothing():
    batch = a_batch(("bd", "btd"), 5)

    def work(ranks, own):
        return copies_across(part_of(batch, own), Perturbation(), ranks, generator=draws())

    for place, found in together((2, 3), work, whole=False):
        expected = with_copies(part_of(batch, place), Perturbation(), generator=draws())
        assert_rows(found, expected, slice(None))


def test_the_losses_see_the_whole_batch_with_gradients_for_a_process_s_own_rows():
    torch.manual_seed(0)
    count, rows = 5, (2, 3)
    parts = {"shift": torch.randn(count, 2), "embeddings": torch.randn(count, 2, 3), "unimodal": None}
    parts["misfit"] = torch.rand(count, 2)
    kept, present, perturbed = torch.rand(3, count, 2) < 0.5
    labels = torch.arange(count)
    leaves = {name: None if x is None else x.requires_grad_() for name, x in parts.items()}

    def work(ranks, own):
        cut = {name: None if x is None else x[own].double() for name, x in leaves.items()}
        modulation = Modulation(gates={"a": torch.ones(1)}, agreement=torch.ones(1), kept=kept[own], **cut)
        return whole_batch(ranks, modulation, present[own], perturbed[own], labels[own])

    for place, (whole, every_present, every_perturbed, every_label) in together(rows, work):
        assert torch.equal(whole.shift, parts["shift"].double())
        assert torch.equal(whole.embeddings, parts["embeddings"].double())
        assert torch.equal(whole.misfit, parts["misfit"].double())
        assert (whole.unimodal, whole.gates, whole.agreement) == (None, {}, None)
        for found, expected in (
            (whole.kept, kept),
            (every_present, present),
            (every_perturbed, perturbed),
            (every_label, labels),
        ):
            assert torch.equal(found, expected)
        own = torch.zeros(count, 2)
        own[place] = 1
        (gradient,) = torch.autograd.grad(whole.shift.sum() + whole.embeddings.sum(), leaves["shift"])
        assert torch.equal(gradient, own)


def test_what_is_not_there_is_not_sent():
    modulation = Modulation(shift=torch.zeros(4, 2), gates={}, unimodal=torch.rand(4, 2, 3))
    present = torch.ones(4, 2, dtype=torch.bool)

    def work(ranks, own):
        mine = replace(modulation, shift=modulation.shift[own], unimodal=modulation.unimodal[own])
        return whole_batch(ranks, mine, present[own], None, None)

    for _, (whole, _, every_perturbed, every_label) in together((1, 3), work):
        assert torch.equal(whole.unimodal, modulation.unimodal)
        assert (whole.embeddings, whole.kept, every_perturbed, every_label) == (None, None, None, None)


def test_ranks_need_processes_that_know_of_each_other():
    with pytest.raises(UsageError, match=r"Ranks needs processes that know of each other; call torch.distributed.init"):
        Ranks()


def test_one_process_has_no_ranks():
    with connected(1) as ranks:
        assert ranks is None


def test_the_copies_of_one_process_are_those_of_its_batch():
    features = {"a": torch.randn(6, 3), "b": torch.randn(6, 4, 2)}
    batch = gather(features, sizes={"a": 3, "b": 2}, layouts={"a": "bd", "b": "btd"})
    found, expected = (
        make(batch, Perturbation(), *more, generator=torch.Generator().manual_seed(0))
        for make, more in ((copies_across, (None,)), (with_copies, ()))
    )
    assert all(torch.equal(found.batch.features[name], x) for name, x in expected.batch.features.items())
    assert torch.equal(found.perturbed, expected.perturbed)
