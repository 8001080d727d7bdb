"""Reading ahead: the same things in the same order, no more of them than was said, and faults where they are met."""

import itertools
import threading
import time

import pytest

from concordant.training.prefetch import Clock, read_ahead


def test_it_yields_what_was_asked_for_in_order():
    assert list(read_ahead(lambda one: one * 2, range(20), 3, Clock())) == [one * 2 for one in range(20)]
    assert list(read_ahead(str, [], 3, Clock())) == []


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_than_the_depth_is_asked_for_in_advance(depth):
    asked = []

    def numbers():
        for number in itertools.count():
            asked.append(number)
            yield number

    ahead = read_ahead(lambda one: one, numbers(), depth, Clock())
    for number in range(5):
        assert next(ahead) == number
        assert len(asked) == number + 1 + depth
    ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("concordant-reading")]


def test_reading_goes_on_while_the_caller_works():
    read = threading.Event()

    def slow(one):
        if one == 1:
            read.set()
        return one

    ahead = read_ahead(slow, range(3), 1, Clock())
    assert next(ahead) == 0
    assert read.wait(5)  # 1 is read although nobody has asked for it yet
    ahead.close()


def test_the_clock_runs_while_the_caller_waits_and_only_then():
    clock = Clock()
    ahead = read_ahead(lambda one: time.sleep(0.05) or one, range(2), 1, clock)
    next(ahead)
    waited = clock.seconds
    assert waited > 0.04
    time.sleep(0.1)
    next(ahead)
    assert clock.seconds - waited < 0.04
    ahead.close()


def test_a_fault_shows_where_its_batch_is_taken():
    ahead = read_ahead(lambda one: 1 // (2 - one), range(5), 2, Clock())
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(ahead)
