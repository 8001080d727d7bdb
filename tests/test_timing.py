import gc

import pytest

from concordant.timing import calls_for, interleaved, ratios, spread


def test_spread_is_median_and_quartiles():
    assert spread("x", [1.0, 2.0, 3.0, 4.0, 5.0]) == {"x": 3.0, "x_low": 2.0, "x_high": 4.0}
    assert spread("x", [7.12345]) == {"x": 7.1235, "x_low": 7.1235, "x_high": 7.1235}
    assert spread("x", [1.0, 2.0])["x"] == 1.5


def test_ratios_are_formed_turn_by_turn():
    # Noise that triples both times of one turn leaves the ratio as it is.
    assert ratios([2.0, 6.0, 2.0], [1.0, 3.0, 1.0]) == [2.0, 2.0, 2.0]
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0], [1.0, 2.0])


class Clock:
    """A clock that actions advance."""

    now = 0.0

    def __call__(self):
        return self.now

    def spend(self, seconds):
        self.now += seconds


def test_actions_take_turns_in_changing_order_and_the_first_turns_do_not_count():
    clock, order = Clock(), []

    def action(name, seconds):
        def run():
            order.append(name)
            assert not gc.isenabled()
            clock.spend(seconds * (10 if len(order) <= 3 else 1))  # the first turn is slow

        return run

    actions = {name: action(name, seconds) for name, seconds in (("a", 1), ("b", 2), ("c", 3))}
    found = interleaved(actions, repetitions=2, warm=1, clock=clock)
    assert order == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert found == {"a": [1, 1], "b": [2, 2], "c": [3, 3]}
    assert gc.isenabled()


def test_short_actions_may_run_several_times_a_turn():
    clock, counts = Clock(), {"a": 0, "b": 0}

    def action(name):
        counts[name] += 1
        clock.spend(0.5)

    actions = {name: lambda name=name: action(name) for name in counts}
    found = interleaved(actions, repetitions=3, calls={"a": 4, "b": 1}, warm=0, clock=clock)
    assert counts == {"a": 12, "b": 3}
    assert found == {"a": [0.5] * 3, "b": [0.5] * 3}


def test_garbage_is_collected_again_after_an_error():
    with pytest.raises(ZeroDivisionError):
        interleaved({"a": lambda: 1 / 0}, repetitions=1)
    assert gc.isenabled()


def test_calls_fill_the_time_they_are_given():
    clock = Clock()
    assert calls_for(lambda: clock.spend(0.25), seconds=1, clock=clock) == 4
    assert calls_for(lambda: clock.spend(5), seconds=1, clock=clock) == 1
    assert calls_for(lambda: clock.spend(0), seconds=1, most=7, clock=clock) == 7
