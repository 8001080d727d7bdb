import pytest
import torch

from concordant.errors import DataError, UsageError
from concordant.speed import bandwidth, measuring
from concordant.speed.measuring import SCHEMA, measure_all
from concordant.speed.page import page
from concordant.speed.timing import Spread


def test_unknown_sections_are_refused_with_the_choices():
    with pytest.raises(UsageError, match=r"^unknown section 'warp'; choose from: overhead, bandwidth_bound, vectori"):
        measure_all(only=["rows", "warp"])


def test_a_section_alone_on_one_thread_and_threads_put_back(monkeypatch):
    seen = []

    def rows(**how):
        seen.append((torch.get_num_threads(), how))
        return {"rows": [1], "setting": "vectors", "ratio": [1.0]}

    monkeypatch.setattr(measuring.growth, "measure_rows", rows)
    threads = torch.get_num_threads()
    steps = []
    document = measure_all(quick=True, only=["rows"], progress=lambda *step: steps.append(step))
    assert seen == [(1, {"repetitions": 5})]
    assert torch.get_num_threads() == threads
    assert steps == [(0, 1, "rows: by the size of the dataset")]
    assert document["schema"] == SCHEMA == "concordant.speed/1"
    assert document["command"] == "concordant speed --quick --only rows"
    assert document["rows"] == [{"rows": [1], "setting": "vectors", "ratio": [1.0]}]
    assert "overhead" not in document
    assert document["versions"]["torch"]
    assert document["hardware"]["cores"] >= 1


def test_records_have_their_medians_as_numbers(monkeypatch):
    number = Spread(1.5, 1.4, 1.6)
    found = bandwidth.Bandwidth("context", (64, 500, 512), 3, False, False, number, number, number, number)
    monkeypatch.setattr(measuring.bandwidth, "measure", lambda **how: found)
    records = measure_all(quick=True, only=["bandwidth_bound"])["bandwidth_bound"]
    assert len(records) == 2
    assert records[0]["shape"] == [64, 500, 512]
    assert (records[0]["ratio"], records[0]["ratio_low"], records[0]["ratio_high"]) == (1.5, 1.4, 1.6)
    assert measuring.bandwidth.measure().record() == records[0]


def test_what_needs_absent_data_is_said_to_be_left_out(monkeypatch):
    def absent(benchmark, **how):
        raise DataError(f"{benchmark}.npz is expected in nowhere, and is not")

    monkeypatch.setattr(measuring.vectorised, "measure_seeds", lambda benchmark, **how: absent(benchmark))
    document = measure_all(only=["vectorised_seeds"])
    assert document["vectorised_seeds"] == []
    assert len(document["skipped"]) == len(measuring.SEEDS)
    assert document["skipped"][0].startswith("vectorised_seeds, cmu-mosi-utterance, lf-dnn (cmu-mosi-utterance.npz")
    assert "Not measured: vectorised_seeds, cmu-mosi-utterance, lf-dnn" in page(document)


def test_all_that_is_promised_is_measured():
    document = measure_all(quick=True, only=["operators"])
    assert {record["fusion"] for record in document["operators"]} == {"lf-dnn", "mult", "concat"}
    whole = measuring._settings(quick=False)
    pairs = {(fusion, preset) for fusion, _, preset, _ in whole}
    large = {(fusion, "paper") for fusion in ("mbt", "perceiver")}
    large |= {(name, "paper") for name in measuring.FUSIONS if measuring.FUSIONS[name].setting == "convolutional"}
    assert pairs == {(fusion, preset) for fusion in measuring.FUSIONS for preset in ("small", "paper")} - large
    assert ("mult", measuring.overhead.UNALIGNED, "small", measuring.NEAREST) in whole
    everyone = next(names for fusion, _, preset, names in whole if (fusion, preset) == ("lf-dnn", "small"))
    assert {"none", "self", "joint", "gmu", "aecf", "evidential", "context"} <= set(everyone)
    (first, second) = measuring.too_large()
    assert first == "overhead, mbt, paper (a model of 255 million parameters)"
    assert second.startswith("overhead, perceiver, paper")


def test_inference_of_vectors_is_timed_compiled_too(monkeypatch):
    asked = []

    class Record:
        def __init__(self, name):
            self.name = name

        def record(self):
            return {"calibrator": self.name, "ratio": 1.0}

    def compiled(setting, fusion, *, calibrators, clock):
        asked.append((setting.name, fusion))
        return {name: {"compiled": 1.4} for name in calibrators}

    monkeypatch.setattr(measuring.overhead, "measure", lambda *_, **how: [Record(name) for name in how["calibrators"]])
    monkeypatch.setattr(measuring.compiling, "measure", compiled)
    found = measure_all(only=["overhead"])["overhead"]
    assert asked == [("vectors", "lf-dnn")]
    assert sorted(record["calibrator"] for record in found if "compiled" in record) == ["context", "joint", "none"]
    measure_all(quick=True, only=["overhead"])
    assert len(asked) == 1
