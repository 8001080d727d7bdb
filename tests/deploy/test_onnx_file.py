import sys

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from concordant.deploy.graph import Entry  # noqa: E402
from concordant.deploy.onnx_file import named, runtime, to_onnx, write_onnx  # noqa: E402
from concordant.errors import ConcordantError, UsageError  # noqa: E402

ABOUT = {"concordant": '{"classes": ["ß", "\N{SNOWMAN}"]}', "other": ""}


class Tiny(nn.Module):
    """A graph of a sequence and a vector whose mask and presence are asked for, but not all of them used."""

    def forward(self, inputs, masks, present):
        valid = masks["my tone"].unsqueeze(2)
        mean = torch.where(valid, inputs["my tone"], 0.0).sum(1)
        here = torch.stack([present["my tone"], present["b"]], 1)
        return mean + 2 * inputs["b"], here.float()


def asked(count, steps, seed=0):
    draws = torch.Generator().manual_seed(seed)
    inputs = {
        "my tone": torch.randn(count, steps, 3, generator=draws),
        "b": torch.randn(count, 3, generator=draws),
    }
    masks = {"my tone": torch.rand(count, steps, generator=draws) < 0.5}
    return inputs, masks, {name: torch.rand(count, generator=draws) < 0.5 for name in inputs}


ENTRIES = [
    Entry("inputs_my tone", "float32", ("batch", "my tone_steps", 3)),
    Entry("inputs_b", "float32", ("batch", 3)),
    Entry("masks_my tone", "bool", ("batch", "my tone_steps")),
    Entry("present_my tone", "bool", ("batch",)),
    Entry("present_b", "bool", ("batch",)),
]


def program():
    free = torch.export.Dim.DYNAMIC
    shapes = (
        {"my tone": {0: free, 1: free}, "b": {0: free}},
        {"my tone": {0: free, 1: free}},
        {"my tone": {0: free}, "b": {0: free}},
    )
    return torch.export.export(Tiny(), asked(3, 4), dynamic_shapes=shapes, strict=False)


@pytest.fixture(scope="module")
def model():
    return to_onnx(program(), ENTRIES, ABOUT)


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    place = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    write_onnx(model, place)
    return place


def axes(values):
    return {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values
    }


def test_axes_of_any_size_have_the_names_of_the_entries_and_of_the_batch(model):
    assert axes(model.graph.input) == {entry.name: list(entry.shape) for entry in ENTRIES}
    assert axes(model.graph.output) == {"logits": ["batch", 3], "reliability": ["batch", 2]}
    assert not model.graph.value_info


def test_what_the_file_tells_of_itself_comes_back(path):
    told = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    assert told == ABOUT


@pytest.mark.parametrize(("count", "steps"), [(1, 1), (5, 9), (2, 4)])
@pytest.mark.parametrize("threads", [None, 1])
def test_the_file_answers_as_the_graph_does_for_any_sizes(path, count, steps, threads):
    given = asked(count, steps, seed=count)
    for found, wanted in zip(runtime(path, threads=threads)(given), Tiny()(*given), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_inputs_are_named_by_kind_and_modality():
    given = asked(2, 3)
    found = named(given)
    assert list(found) == [entry.name for entry in ENTRIES]
    assert found["masks_my tone"].dtype == np.bool_
    assert np.shares_memory(found["inputs_b"], given[0]["b"].numpy())


def test_what_a_graph_does_not_take_is_left_out(path):
    given = asked(2, 3)
    wanted = Tiny()(*given)
    given[0]["unknown"] = torch.ones(2)
    assert all(torch.equal(*pair) for pair in zip(runtime(path)(given), wanted, strict=True))


@pytest.mark.parametrize("content", [b"", b"no model", None])
def test_a_file_that_cannot_be_loaded_is_told(path, tmp_path, content):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(path.read_bytes()[:100] if content is None else content)
    said = rf"^onnxruntime {onnxruntime.__version__} cannot load the ONNX file \(.+\); if the file is whole, a newer"
    for place in (broken, tmp_path / "gone.onnx"):
        with pytest.raises(ConcordantError, match=said):
            runtime(place)


def test_a_refusal_says_what_it_came_from_in_one_line_of_some_length(monkeypatch):
    cause = [ValueError("no\n operator   for\tit" + "!" * 300)]

    def refuse(*args, **kwargs):
        raise RuntimeError("long story") from cause[-1]

    monkeypatch.setattr("torch.onnx.export", refuse)
    with pytest.raises(UsageError) as caught:
        to_onnx(None, [], {})
    said = str(caught.value)
    assert said.startswith("ONNX cannot express this model (no operator for it!!!")
    assert said.endswith("!); use --format torch-export")
    assert len(said) == len("ONNX cannot express this model (); use --format torch-export") + 200
    cause.append(NotImplementedError())
    with pytest.raises(UsageError, match=r"^ONNX cannot express this model \(NotImplementedError\); use --format"):
        to_onnx(None, [], {})


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_a_package_that_is_missing_is_named(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        ConcordantError, match=rf"^ONNX needs {missing}, which is not installed: pip install 'concordant\[export\]'$"
    ):
        to_onnx(None, [], {})


def test_a_runtime_that_is_missing_is_named(monkeypatch, path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConcordantError, match=r"^the check needs onnxruntime, which is not installed: pip install"):
        runtime(path)
