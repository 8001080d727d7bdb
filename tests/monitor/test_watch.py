import json

import numpy as np
import pytest
from scipy import stats

from concordant.errors import UsageError
from concordant.monitor.evidence import ABSENT, Evidence
from concordant.monitor.watch import Watch

NAMES = ("a", "b", "c")


def drawn(seed, count, names=NAMES):
    """Evidence of independent instances, whose reliability goes with level and agreement."""
    draws = np.random.default_rng(seed)
    shape = (count, len(names))
    level = draws.standard_normal(shape)
    agreement = np.tanh(draws.standard_normal(shape) + 0.5 * level)
    return Evidence(
        names,
        1 / (1 + np.exp(-3 - draws.standard_normal(shape) - agreement)),
        agreement,
        level,
        {name: draws.standard_normal((count, 4)) for name in names},
    )


def watch(seed=0, *, count=80, rate=1e-3, guarantee="run-length", names=NAMES):
    draws = np.random.default_rng(1000 + seed)
    return Watch(drawn(2000 + seed, count, names), rate=rate, guarantee=guarantee, draws=draws)


def faulty(kind, seed=5, count=60, start=20, column=1):
    """A stream whose modality b goes bad with instance start + 1."""
    stream = drawn(seed, count)
    name = NAMES[column]
    if kind == "absent":
        stream.level[start:, column] = ABSENT
        stream.reliability[start:, column] = np.nan
        stream.agreement[start:, column] = np.nan
        stream.summaries[name][start:] = np.nan
    elif kind == "died":
        stream.level[start:, column] = -9.0
        stream.summaries[name][start:] = 0.0
    elif kind == "frozen":
        stream.summaries[name][start:] = stream.summaries[name][start]
    elif kind == "swapped":
        stream.reliability[start:, column] -= 0.3
        stream.agreement[start:, column] = -0.99
    else:
        stream.reliability[start:, column] -= 0.3
        stream.summaries[name][start:] += 9.0
    return stream


@pytest.mark.parametrize("fault", ["absent", "died", "frozen", "swapped", "drifted"])
@pytest.mark.parametrize("guarantee", ["run-length", "ever"])
def test_each_fault_is_seen_and_named_with_its_modality_and_onset(fault, guarantee):
    (alarm,) = watch(guarantee=guarantee).step(faulty(fault))
    assert alarm.modality == "b"
    assert alarm.kind == ("died" if fault == "absent" else fault)
    assert 20 < alarm.number <= (45 if guarantee == "run-length" else 60)
    assert 14 <= alarm.since <= 24
    assert alarm.statistic >= alarm.threshold


@pytest.mark.parametrize(("guarantee", "rate"), [("run-length", 0.005), ("ever", 0.2)])
def test_clean_streams_raise_no_more_alarms_than_guaranteed(guarantee, rate):
    length, raised = 60, 0
    for seed in range(200):
        one = watch(seed, count=30, rate=rate, guarantee=guarantee, names=("a", "b"))
        raised += bool(one.step(drawn(seed, length, ("a", "b"))))
    chance = rate if guarantee == "ever" else length * rate / 2
    assert raised <= stats.binom.ppf(1 - 1e-6, 200, chance)


def test_the_alarms_do_not_depend_on_how_the_stream_is_cut():
    whole, pieces, stream = watch(), watch(), faulty("drifted")
    alarms = [alarm for start in range(0, 60, 7) for alarm in pieces.step(stream.take(slice(start, start + 7)))]
    assert alarms == whole.step(stream)
    assert json.dumps(pieces.state()) == json.dumps(whole.state())


def test_an_alarm_is_raised_once_and_the_others_context_rests_until_a_reset():
    one, stream = watch(), faulty("drifted", count=120)
    stream.reliability[20:, 2] -= 0.05  # what b does to c
    assert len(one.step(stream)) == 1
    before = one.tests.steps.copy()
    one.step(drawn(9, 10))
    places = {"a": 0, "c": 8}
    for start in places.values():
        assert (one.tests.steps[start : start + 2] == before[start : start + 2]).all()  # reliability, agreement
        assert one.tests.steps[start + 3] == before[start + 3] + 10  # level
    one.reset("b")
    assert one.alarms == {}
    assert one.step(drawn(10, 60)) == []


def test_a_modality_that_drifted_can_still_die():
    one = watch()
    assert [alarm.kind for alarm in one.step(faulty("drifted"))] == ["drifted"]
    assert [alarm.kind for alarm in one.step(faulty("died", start=0))] == ["died"]
    assert one.alarms["b"].kind == "died"
    assert one.step(faulty("frozen", start=0)) == []  # says less


def test_two_modalities_can_die_one_after_the_other():
    one = watch()
    assert [alarm.modality for alarm in one.step(faulty("died"))] == ["b"]
    both = faulty("died", start=0)
    both.level[:, 0] = -9.0
    assert [(alarm.modality, alarm.kind) for alarm in one.step(both)] == [("a", "died")]


def test_a_dead_modality_is_blamed_for_what_it_does_to_the_others():
    stream = faulty("died")
    stream.reliability[20:, 0] = 0.0  # a suffers more than b, whose level is tested at the same time
    stream.agreement[20:, 0] = -1.0
    (alarm,) = watch(count=200).step(stream)
    assert (alarm.modality, alarm.kind) == ("b", "died")


def test_missing_instances_as_common_as_in_the_clean_data_are_no_fault():
    def holes(evidence, seed):
        gone = np.random.default_rng(seed).random(len(evidence)) < 0.3
        evidence.level[gone, 0] = ABSENT
        evidence.reliability[gone, 0] = np.nan
        evidence.agreement[gone, 0] = np.nan
        evidence.summaries["a"][gone] = np.nan
        return evidence

    clean, stream = holes(drawn(1, 100), 1), holes(drawn(2, 200), 2)
    one = Watch(clean, rate=1e-3, guarantee="run-length", draws=np.random.default_rng(0))
    assert one.step(stream) == []
    gone = stream.take(slice(0, 40))
    gone.level[:, 0] = ABSENT
    gone.summaries["a"][:] = np.nan
    assert [alarm.kind for alarm in one.step(gone)] == ["died"]


def test_only_every_second_change_is_tested():
    one = watch()
    one.step(drawn(3, 9))  # eight changes, four pairs
    assert one.tests.steps[2] == 4
    assert one.tests.steps[3] == 9


def test_a_watch_goes_on_from_its_state_as_if_nothing_had_happened():
    one, stream = watch(), faulty("drifted")
    one.step(stream.take(slice(0, 22)))
    again = Watch.restore(json.loads(json.dumps(one.state())), guarantee="run-length")
    rest = stream.take(slice(22, 60))
    assert again.step(rest) == one.step(rest)
    assert again.state() == one.state()
    assert Watch.restore(one.state(), guarantee="run-length").alarms == one.alarms


def test_too_few_clean_instances_are_refused():
    with pytest.raises(UsageError, match="clean data must have 20 instances or more with 'a'; found 19"):
        watch(count=19)


def test_features_of_another_size_are_refused():
    stream = drawn(0, 3)
    stream.summaries["c"] = np.zeros((3, 5))
    with pytest.raises(
        UsageError, match="features of 'c' must have summaries of 4 numbers, as the clean data; found 5"
    ):
        watch().step(stream)


def test_other_modalities_are_refused():
    with pytest.raises(UsageError, match=r"instances must have the modalities \['a', 'b', 'c'\]; found \['a', 'b'\]"):
        watch().step(drawn(0, 3, ("a", "b")))


def test_the_reliability_of_the_status_is_usual_at_one_half():
    one = watch(count=400)
    assert one.reliability("a") is None
    one.step(drawn(4, 64))
    assert one.reliability("a") == pytest.approx(0.5, abs=0.15)
    one.step(faulty("drifted", start=0, count=64))
    assert one.reliability("b") < 0.05
