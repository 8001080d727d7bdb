import time

import pytest

from concordant.speed import kernels

triton = pytest.importorskip("triton", reason="the kernels are written in Triton, which is not installed here")
if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7):
    pytest.skip("Triton before 3.7 cannot interpret kernels with NumPy 2.4", allow_module_level=True)


@pytest.mark.parametrize("masked", [False, True])
def test_every_kernel_is_timed_beside_its_bound_and_its_plain_operations(masked):
    found = kernels.measure(
        device="cpu", shape=(2, 6, 4), masked=masked, repetitions=2, calls=1, clock=time.perf_counter
    )
    assert [one["kernel"] for one in found] == ["pool", "scale", "pool, backward", "scale, backward"]
    for one in found:
        assert (one["shape"], one["masked"]) == ([2, 6, 4], masked)
        assert one["ratio_low"] <= one["ratio"] <= one["ratio_high"]
        assert one["plain_ratio"] > 0


def test_tiles_of_every_size_give_the_summary_and_are_timed(monkeypatch):
    monkeypatch.setattr(kernels, "TILES", kernels.TILES[:3])
    found = kernels.measure_tiles(device="cpu", shape=(2, 6, 4), repetitions=1, clock=time.perf_counter)
    assert [(one["tile"], one["columns"], one["warps"], one["ahead"]) for one in found] == list(kernels.TILES)
    assert all(one["ratio"] > 0 and one["masked_ratio"] > 0 for one in found)
