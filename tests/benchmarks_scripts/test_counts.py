import pytest
import torch
from torch import nn

from benchmarks.counts import measure_memory, measure_operators, operators_of, peak_bytes
from concordant.speed import VECTORS

MEBI = 2**20


def tensor(mebibytes):
    return torch.empty(mebibytes * MEBI, dtype=torch.uint8)


def test_the_peak_is_what_was_held_at_once_not_what_was_allocated_in_all():
    def work():
        for _ in range(5):
            tensor(8)
        kept = tensor(2)
        return kept, tensor(3)

    assert peak_bytes(work) == pytest.approx(8 * MEBI, rel=1e-3)


def test_what_was_held_before_does_not_count():
    before = tensor(32)
    assert peak_bytes(lambda: (tensor(4), before)) == pytest.approx(4 * MEBI, rel=1e-3)


def test_what_the_first_call_leaves_is_freed_and_counted_as_freed():
    held = []

    def work():
        held.clear()
        held.append(tensor(16))

    # At the second call the first call's 16 go before the new 16 come.
    assert peak_bytes(work) == pytest.approx(0, abs=MEBI)


def test_backward_holds_what_forward_saved():
    x = torch.randn(MEBI // 4, requires_grad=True)  # 1 MiB

    def work():
        y = x
        for _ in range(6):
            y = y.exp()  # each saves its result
        y.sum().backward()
        x.grad = None

    assert 6 <= peak_bytes(work) / MEBI <= 9


def test_a_step_needs_more_with_a_calibrator_and_less_without_the_perturbed_half():
    found = measure_memory(VECTORS, "lf-dnn", calibrators=["context"])
    ratio = {record["calibrator"]: record["ratio"] for record in found if record["phase"] == "train"}
    assert ratio["none"] == 1
    assert ratio["none, clean"] < 1 < ratio["context"]
    assert {record["phase"] for record in found} == {"train", "inference"}
    assert all(record["peak_mebibytes"] > 0 for record in found)


def test_operators_of_the_backward_pass_count_too():
    x = torch.ones(3, requires_grad=True)
    forward = operators_of(lambda: (x * x).sum())
    both = operators_of(lambda: (x * x).sum().backward())
    assert forward["mul"] == 1
    assert both["mul"] == 3  # and one for each factor
    assert both.total() > forward.total()


def test_they_are_the_same_at_every_repetition_and_do_not_depend_on_sizes():
    def counts(size):
        layer = nn.Linear(size, size)
        return operators_of(lambda: layer(torch.ones(2, size)))

    assert counts(4) == counts(4) == counts(64)


def test_a_calibrator_adds_operators():
    found = measure_operators(VECTORS, "lf-dnn", calibrators=["context"])
    for phase in ("train", "inference"):
        count = {one["calibrator"]: one["operators"] for one in found if one["phase"] == phase}
        assert count["context"] > count["none"] > 0
    ratio = {(one["phase"], one["calibrator"]): one["ratio"] for one in found}
    assert ratio["train", "none"] == 1
    assert ratio["train", "none, clean"] < 1
