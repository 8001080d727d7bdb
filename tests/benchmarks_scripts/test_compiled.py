import pytest
import torch

from benchmarks import compiled
from concordant.speed import VECTORS


def test_compiled_models_are_timed_against_both_bases():
    state = torch.get_rng_state()
    found = compiled.measure(
        VECTORS, "lf-dnn", calibrators=["context"], backend="aot_eager", repetitions=3, seconds=0.0
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert list(found) == ["none", "context"]
    assert found["none"]["compiled_over_none"] == 1
    for record in found.values():
        assert record["compiled_low"] <= record["compiled"] <= record["compiled_high"]
        assert record["compiled_milliseconds"] > 0


def test_the_whole_model_is_one_graph():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled.measure(VECTORS, "lf-dnn", calibrators=["none", "context"], backend=backend, repetitions=1, seconds=0.0)
    assert len(graphs) == 2  # one a calibrator; "none, as it is" is not compiled


def test_a_whole_step_stands_beside_its_bound_and_that_with_the_calibrator_compiled():
    how = {"backend": "aot_eager", "repetitions": 3, "seconds": 0.0}
    eager, fast = compiled.measure_step(VECTORS, "lf-dnn", limit=1.5, compiled=True, **how)
    assert (eager["calibrator"], eager["limit"]) == ("context", 1.5)
    assert (fast["calibrator"], fast["limit"]) == ("context, compiled", None)
    for record in (eager, fast):
        assert record["ratio_low"] <= record["ratio"] <= record["ratio_high"]
        assert (record["setting"], record["fusion"]) == ("vectors", "lf-dnn")
    (only,) = compiled.measure_step(VECTORS, "lf-dnn", **how)
    assert only["calibrator"] == "context"


@pytest.fixture(autouse=True)
def _forget():
    yield
    torch.compiler.reset()
