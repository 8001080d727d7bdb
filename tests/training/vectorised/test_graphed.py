"""What surrounds a CUDA graph, with one that records nothing; whole graphs are tested on a GPU (test_together.py)."""

from contextlib import contextmanager

import pytest
import torch

from concordant.errors import ConcordantError
from concordant.training.vectorised.graphed import drawn, graphed


class _Stream:
    def wait_stream(self, other):
        pass


class _Graph:
    """Runs what was recorded again, as a graph does, given that the test says what that is."""

    again = staticmethod(lambda: None)
    registered = ()

    def register_generator_state(self, generator):
        self.registered = (*self.registered, generator)

    def capture_begin(self):
        pass

    def capture_end(self):
        pass

    def replay(self):
        self.again()


@pytest.fixture
def fake(monkeypatch):
    @contextmanager
    def context(_):
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", _Graph)
    monkeypatch.setattr(torch.cuda, "Stream", _Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", _Stream)
    monkeypatch.setattr(torch.cuda, "stream", context)
    monkeypatch.setattr(torch.cuda, "graph", context)
    return _Graph


def test_new_batches_are_copied_to_where_the_graph_reads_and_recording_writes_nothing(fake, monkeypatch):
    seen, written, result = [], {"count": torch.zeros(2)}, torch.zeros(2)

    def play(steady, others, batch):
        others["count"] += 1
        seen.append(batch["x"])
        result.copy_(steady * batch["x"])
        return result

    first = {"x": torch.ones(2)}
    replay = graphed(play, torch.tensor(3.0), written, first)
    assert len(seen) == 2  # once as it is, once to be recorded, which in truth computes nothing
    written["count"].zero_()
    place = seen[0]
    assert place.data_ptr() != first["x"].data_ptr()
    assert {x.data_ptr() for x in seen} == {place.data_ptr()}
    monkeypatch.setattr(fake, "again", staticmethod(lambda: play(torch.tensor(3.0), written, {"x": place})))
    assert torch.equal(replay({"x": torch.tensor([2.0, 5.0])}), torch.tensor([6.0, 15.0]))
    assert torch.equal(written["count"], torch.ones(2))


@pytest.mark.usefixtures("fake")
def test_the_first_call_is_undone_in_what_is_written_to():
    written = {"count": torch.zeros(2)}
    calls = []

    def play(steady, others, batch):
        if not calls:
            others["count"] += 1
        calls.append(batch)

    graphed(play, [], written, torch.ones(1))
    assert torch.equal(written["count"], torch.zeros(2))


@pytest.mark.usefixtures("fake")
def test_what_cannot_be_recorded_is_said():
    def play(*_):
        raise RuntimeError("operation not permitted when stream is capturing.\nmore")

    told = r"CUDA cannot record a step as a graph \(operation not permitted when stream is capturing\)$"
    with pytest.raises(ConcordantError, match=told):
        graphed(play, [], {}, torch.ones(1))
    with pytest.raises(ConcordantError, match=told):
        drawn(play, *(torch.Generator() for _ in range(3)))


def test_a_seed_draws_from_its_own_state_and_leaves_the_devices_stream_as_it_was(fake, monkeypatch):
    implicit, explicit, stream = (torch.Generator().manual_seed(seed) for seed in (1, 2, 3))
    into = torch.empty(2, 3)

    def draw():
        into[0].uniform_(generator=stream)
        into[1].uniform_(generator=explicit)

    before = [one.get_state() for one in (implicit, explicit, stream)]
    replay = drawn(draw, implicit, explicit, stream)
    explicit.set_state(before[1])  # to record draws nothing in truth
    stream.set_state(before[2])
    monkeypatch.setattr(fake, "again", staticmethod(draw))
    own = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    for _ in range(2):
        replay()
        assert torch.equal(into, torch.stack([torch.rand(3, generator=one) for one in own]))
        assert torch.equal(stream.get_state(), before[2])
