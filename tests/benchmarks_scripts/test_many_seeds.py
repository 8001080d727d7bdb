import math

import pytest

from benchmarks.many_seeds import bytes_of, distance, measure_seeds
from concordant.benchmarks.catalogue import prepare
from concordant.training.train import Trained


def test_both_ways_are_timed_and_give_the_same():
    found = measure_seeds("digits", fusion="lf-dnn", seeds=3, steps=6, repetitions=1)
    assert found["speedup"] == pytest.approx(found["sequential_seconds"] / found["vectorised_seconds"], rel=0.2)
    assert found["speedup_low"] <= found["speedup"] <= found["speedup_high"]
    assert found["loss_apart"] < 1e-4
    assert (found["chosen"], found["reason"]) == (True, "")
    assert (found["fusion"], found["seeds"], found["steps"]) == ("lf-dnn", 3, 6)


def test_the_distance_is_the_largest_over_seeds_and_evaluations():
    def run(*pairs):
        return Trained(None, [{"loss": loss, "validation": score} for loss, score in pairs])

    one = {0: run((1.0, 0.5), (2.0, 0.5)), 1: run((1.0, 0.25))}
    other = {0: run((1.0, 0.5), (2.5, 0.5)), 1: run((1.0, 0.5))}
    assert distance(one, other) == (0.5, 0.25)


def test_bytes_are_those_of_all_inputs():
    task = prepare("digits", seed=0)
    count = len(task.train) + len(task.valid) + len(task.test)
    assert bytes_of(task) == 4 * count * sum(math.prod(shape) for shape in task.train.shapes.values())
