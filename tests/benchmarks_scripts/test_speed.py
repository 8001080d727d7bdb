import time

import pytest
import torch

from benchmarks import speed as script
from benchmarks.page import page
from benchmarks.speed import SEEDS, measure_all, sections_of
from concordant import speed, timing
from concordant.errors import DataError, UsageError
from concordant.files import read_json
from concordant.fusion import FUSIONS


def test_unknown_sections_are_refused_with_the_choices():
    with pytest.raises(
        UsageError, match=r"^unknown section 'warp'; choose from: whole_step, overhead, bandwidth_bound, v"
    ):
        measure_all(only=["rows", "warp"])


def test_a_section_alone_on_one_thread_and_threads_put_back(monkeypatch):
    seen = []

    def rows(**how):
        seen.append((torch.get_num_threads(), how))
        return {"rows": [1], "setting": "vectors", "ratio": [1.0]}

    monkeypatch.setattr(script.growth, "measure_rows", rows)
    threads = torch.get_num_threads()
    steps = []
    document = measure_all(quick=True, only=["rows"], progress=lambda *step: steps.append(step))
    assert seen == [(1, {"repetitions": 5})]
    assert torch.get_num_threads() == threads
    assert steps == [(0, 1, "rows: by the size of the dataset")]
    assert document["schema"] == "concordant.speed/1"
    assert document["command"] == "python -m benchmarks.speed --quick --only rows"
    assert document["rows"] == [{"rows": [1], "setting": "vectors", "ratio": [1.0]}]
    assert "overhead" not in document
    assert document["versions"]["torch"]
    assert document["hardware"]["cores"] >= 1


def test_what_needs_absent_data_is_said_to_be_left_out(monkeypatch):
    def absent(benchmark, **how):
        raise DataError(f"{benchmark}.npz is expected in nowhere, and is not")

    monkeypatch.setattr(script.many_seeds, "measure_seeds", lambda benchmark, **how: absent(benchmark))
    document = measure_all(only=["vectorised_seeds"])
    assert document["vectorised_seeds"] == []
    assert len(document["skipped"]) == len(SEEDS)
    assert document["skipped"][0].startswith("vectorised_seeds, cmu-mosi-utterance, lf-dnn (cmu-mosi-utterance.npz")
    assert "Not measured: vectorised_seeds, cmu-mosi-utterance, lf-dnn" in page(document)


def test_operators_are_counted_for_one_fusion_of_each_kind():
    for section in ("operators", "memory"):
        assert [name.partition(",")[0] for name in sections_of("cpu", quick=True)[section]] == [
            "lf-dnn",
            "mult",
            "concat",
        ]


def test_inference_of_vectors_is_timed_compiled_too(monkeypatch):
    asked = []

    def compiled(setting, fusion, *, calibrators, device, clock):
        asked.append((setting.name, fusion))
        return {name: {"compiled": 1.4} for name in calibrators}

    def eager(setting, fusion, *, calibrators, phase, **how):
        return [{"calibrator": name, "phase": phase, "ratio": 1.0} for name in calibrators]

    monkeypatch.setattr(speed, "measure", eager)
    monkeypatch.setattr(script.compiled, "measure", compiled)
    found = measure_all(only=["overhead"])["overhead"]
    assert asked == [("vectors", "lf-dnn")]
    assert sorted(record["calibrator"] for record in found if "compiled" in record) == ["context", "joint", "none"]
    measure_all(quick=True, only=["overhead"])
    assert len(asked) == 1


def test_an_accelerator_is_measured_in_both_phases_and_each_shape_as_a_graph():
    found = sections_of("cuda", quick=False)
    assert list(found) == ["bandwidth_bound", "vectorised_seeds", "overhead"]
    assert len(found["overhead"]) == 2 * len(FUSIONS)
    assert [name for name in found["bandwidth_bound"] if name.startswith("(64, 50, 512)")] == [
        "(64, 50, 512)",
        "(64, 50, 512), compiled, reduce-overhead",
    ]
    assert next(iter(found["vectorised_seeds"])) == "cmu-mosi-utterance, lf-dnn"
    quick = sections_of("cuda", quick=True)
    assert sum(map(len, quick.values())) < 10


def test_the_whole_command_runs_on_a_device_with_a_clock_of_its_own(monkeypatch):
    """The calls of a GPU, timed on the CPU: they return a document of the schema."""
    monkeypatch.setattr(speed, "check_device", lambda _: None)
    monkeypatch.setattr(timing, "device_clock", time.perf_counter)
    monkeypatch.setattr(speed, "_plan", lambda *_: [("lf-dnn", speed.VECTORS, "small", speed.NEAREST)])
    timed = speed.measure
    monkeypatch.setattr(speed, "measure", lambda *given, **how: timed(*given, **how, repetitions=2, seconds=0.0))
    monkeypatch.setattr(script, "SHAPES_OF_ACCELERATOR", ((3, 5, 4),))
    found = measure_all(device="cpu:0", quick=True, only=["bandwidth_bound", "overhead"])
    assert found["device"] == "cpu:0"
    assert found["command"] == "python -m benchmarks.speed --device cpu:0 --quick --only bandwidth_bound,overhead"
    assert {r["device"] for r in found["bandwidth_bound"]} == {"cpu:0"}
    assert {r["calibrator"] for r in found["overhead"]} == {"none", "joint", "context", "none, clean"}


def test_whole_steps_are_measured_at_their_bounds():
    found = sections_of("cpu", quick=False)["whole_step"]
    limits = {what: one.keywords["limit"] for what, one in found.items()}
    assert limits["mult, unaligned"] == 1.08
    assert limits["lf-dnn, vectors"] == 1.5
    assert {limit for what, limit in limits.items() if "audio-visual" in what} == {1.05}
    assert [what for what, one in found.items() if one.keywords["compiled"]] == ["lf-dnn, vectors"]
    assert len(limits) == 9


def test_the_script_writes_the_document_and_the_page_that_it_prints(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(speed, "BRIEF", {"lf-dnn": speed.VECTORS})
    script.main(quick=True, only="operators", json_to=tmp_path / "a.json", page_to=tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert text in capsys.readouterr().out
    assert page(read_json(tmp_path / "a.json")) == text
    assert "## Operators" in text
