import json
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from concordant.deploy.export import cases, export_run, largest_difference, write_checked  # noqa: E402
from concordant.deploy.graph import complete  # noqa: E402
from concordant.deploy.onnx_file import named, runtime, to_onnx  # noqa: E402
from concordant.deploy.opening import open_deployed  # noqa: E402
from concordant.errors import ConcordantError, UsageError  # noqa: E402
from concordant.fusion import FUSIONS  # noqa: E402

# Averaging films onto a grid has no operator in ONNX.
NO_ONNX = ("attention",)
FIXED = ("ef-lstm", "mfn")


@pytest.fixture(scope="module")
def exported(shared_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "digits.onnx"
    return export_run(shared_run, out=path, samples=32), path


def test_an_onnx_file_of_a_run_answers_as_its_predictions_file_says(exported, shared_run, digits_run):
    import pyarrow.parquet as pq

    from concordant.training.batches import to_tensors

    _, path = exported
    model, parts = open_deployed(shared_run)
    test = parts.test
    tensors = to_tensors(test)
    logits, reliability = runtime(path)(complete(model.description, tensors.inputs, {}, {}))
    rows = pq.read_table(digits_run / "runs" / "context" / "seed-0" / "predictions.parquet").to_pydict()
    clean = [place for place, condition in enumerate(rows["condition"]) if condition == "clean"]
    assert [rows["id"][place] for place in clean] == test.ids.tolist()
    assert [rows["prediction"][place] for place in clean] == logits.argmax(1).tolist()
    for column, name in enumerate(model.description.names):
        expected = [rows[f"reliability_{name}"][place] for place in clean]
        np.testing.assert_allclose(reliability[:, column].numpy(), expected, rtol=0, atol=1e-5)


def test_the_document_says_what_the_file_is(exported):
    document, path = exported
    assert document["schema"] == "concordant.export/1"
    assert document["bytes"] == path.stat().st_size
    assert (document["label"], document["seed"], document["modalities"]) == ("context", 0, ["left", "right", "profile"])
    assert document["inputs"][0] == {"name": "inputs_left", "dtype": "float32", "shape": ["batch", 1, 8, 4]}
    assert document["check"]["samples"] == 32
    assert document["check"]["largest_difference"] <= 1e-5
    json.dumps(document, allow_nan=False)


def test_the_file_names_its_axes_and_tells_what_it_is(exported):
    _, path = exported
    model = onnx.load(str(path))
    onnx.checker.check_model(model)
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert axes["inputs_profile"] == ["batch", 16]
    assert axes["present_left"] == ["batch"]
    assert axes["logits"] == ["batch", 10]
    assert axes["reliability"] == ["batch", 3]
    told = json.loads({entry.key: entry.value for entry in model.metadata_props}["concordant"])
    assert told["classes"] == [str(digit) for digit in range(10)]


def test_a_pt2_file_answers_as_pytorch_does_bit_for_bit(shared_run, tmp_path):
    path = tmp_path / "digits.pt2"
    document = export_run(shared_run, format="torch-export", out=path, seed=1, samples=8)
    assert document["check"]["largest_difference"] == 0
    extra = {"concordant.json": ""}
    torch.export.load(path, extra_files=extra)
    assert json.loads(extra["concordant.json"])["seed"] == 1


def onnx_agrees(model, batch, path, fixed):
    sizes = ((4, 1.0), (1, 1.0), *(() if fixed else ((6, 0.3), (3, 1.5))))
    asked = [complete(model.description, *batch(model, count, seed=count, share=share)) for count, share in sizes]
    difference, size = write_checked(model, path, asked, fixed_time=fixed)
    assert difference <= 1e-5
    assert size == path.stat().st_size


@pytest.mark.slow
def test_sequences_of_any_length_and_padding_go_through_onnx(built, batch, tmp_path):
    onnx_agrees(built("lf-dnn"), batch, tmp_path / "model.onnx", fixed=False)


@pytest.mark.slow
@pytest.mark.parametrize("fusion", [name for name in FUSIONS if name not in NO_ONNX])
def test_every_fusion_but_one_goes_through_onnx(fusion, built, batch, tmp_path):
    onnx_agrees(built(fusion), batch, tmp_path / "model.onnx", fixed=fusion in FIXED)


def test_what_onnx_cannot_express_is_refused_in_a_sentence():
    """As in the fusion "attention", which averages films onto a grid."""
    program = torch.export.export(torch.nn.AdaptiveAvgPool3d((2, 3, 4)), (torch.zeros(1, 2, 5, 7, 9),))
    with pytest.raises(UsageError, match=r"^ONNX cannot express this model \(.*adaptive_avg_pool3d.*use --format"):
        to_onnx(program, [], {})


def test_a_file_that_answers_otherwise_is_not_written(built, batch, tmp_path, monkeypatch):
    model, path = built("lf-dnn", "none", modalities={"a": ("bd", (4,)), "b": ("bd", (3,))}), tmp_path / "model.pt2"
    asked = [complete(model.description, *batch(model, 4))]
    monkeypatch.setattr(
        "concordant.deploy.export.reload", lambda path: lambda given: (torch.zeros(4, 3), torch.ones(4, 3))
    )
    with pytest.raises(ConcordantError, match=r"differs from PyTorch by .* in logits, more than 1e-05, and was"):
        write_checked(model, path, asked)
    assert not any(tmp_path.iterdir())


def test_a_file_that_refuses_a_batch_is_not_written(built, batch):
    model = built("lf-dnn")

    def refuse(given):
        raise RuntimeError("no")

    with pytest.raises(ConcordantError, match=r"refuses a batch that PyTorch takes, and was not written: no$"):
        largest_difference(model, refuse, [complete(model.description, *batch(model, 4))])


def test_the_check_asks_of_some_of_one_and_of_shorter_sequences(built, batch):
    from concordant.data.split import Split

    model = built("lf-dnn")
    inputs, masks, present = batch(model, 9)
    part = Split(
        {name: x.numpy() for name, x in inputs.items()},
        np.zeros(9, np.int64),
        np.array([str(n) for n in range(9)]),
        None,
        {name: mask.numpy() for name, mask in masks.items()},
        {name: here.numpy() for name, here in present.items()},
    )
    shapes = [{k: x.shape for k, x in named(one).items()} for one in cases(model, part, 4, fixed_time=False)]
    assert [one["inputs_a"] for one in shapes] == [(4, 20, 5), (1, 20, 5), (4, 10, 5)]
    assert [one["masks_b"] for one in shapes] == [(4, 13), (1, 13), (4, 7)]
    short = replace(part, inputs={**part.inputs, "a": part.inputs["a"][:, :3]}, masks={"b": part.masks["b"]})
    padded = cases(model, short, 4, fixed_time=True)
    assert len(padded) == 2
    assert padded[0][0]["a"].shape == (4, 20, 5)
    assert padded[0][1]["a"].sum(1).tolist() == [3] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tflite"}, "--format must be one of onnx, torch-export; found 'tflite'"),
        ({"out": "model.bin"}, "--out must end in .onnx for onnx; found model.bin"),
        ({"samples": 0}, "samples must be 1 or more; found 0"),
        ({"label": "joint"}, "unknown calibrator 'joint' of .*; choose from: none, none\\+perturbed, self, context"),
        ({"seed": 2}, "seed must be one of 0..1, which .* has; found 2"),
    ],
)
def test_wrong_arguments_are_told(shared_run, options, message):
    from pathlib import Path

    options = {key: Path(value) if key == "out" else value for key, value in options.items()}
    with pytest.raises(UsageError, match=f"^{message}$"):
        export_run(shared_run, **options)


def test_where_it_cannot_be_written_is_told(built, batch, tmp_path):
    model = built("lf-dnn", "none", modalities={"a": ("bd", (4,)), "b": ("bd", (3,))})
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"^--out: cannot write to .*model.pt2 \("):
        write_checked(model, tmp_path / "file" / "model.pt2", [complete(model.description, *batch(model, 2))])
