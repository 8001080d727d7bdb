import pytest
import torch

from concordant.attach.folding import feature_size, fold, read_layouts, unfold, unfolded_layout
from concordant.errors import UsageError


@pytest.mark.parametrize(
    ("written", "shape", "apart"), [("(b t)chw", (6, 4, 2, 5), (2, 4, 3, 2, 5)), ("(b t)d", (6, 4), (2, 3, 4))]
)
def test_frames_get_an_axis_of_their_own_and_go_back(written, shape, apart):
    x = torch.randn(shape)
    out = unfold(x, written, 2, "film")
    assert tuple(out.shape) == apart
    assert len(unfolded_layout(written)) == len(apart)
    assert torch.equal(out[1].transpose(0, 1)[2] if len(apart) == 5 else out[1, 2], x[5])  # frame 2 of film 1
    assert torch.equal(fold(out, written), x)
    assert fold(out * 2, written).stride() == x.stride()


def test_other_layouts_pass():
    x = torch.randn(3, 4)
    assert unfold(x, "bd", 3, "x") is x
    assert fold(x, "bd") is x
    assert unfolded_layout("tbd") == "tbd"


@pytest.mark.parametrize("rows", [4, 0])
def test_rows_that_are_no_multiple_of_the_batch_are_refused(rows):
    with pytest.raises(UsageError, match=rf"the first a multiple of the batch size {rows}; found shape \(6, 4\)"):
        unfold(torch.zeros(6, 4), "(b t)d", rows, "film")


def test_the_feature_size_is_read_off_the_layout():
    x = torch.zeros(2, 3, 4)
    assert [feature_size(x, layout, "x") for layout in ("auto", "btd", "bdt", "tbd")] == [4, 4, 3, 4]
    assert feature_size(torch.zeros(6, 3, 2, 2), "(b t)chw", "x") == 3
    with pytest.raises(UsageError, match=r"the tap of 'x' must give features in layout 'auto'; found shape \(3,\)"):
        feature_size(torch.zeros(3), "auto", "x")


def test_one_layout_serves_all_or_each_its_own():
    assert read_layouts("bdt", ("a", "b")) == {"a": "bdt", "b": "bdt"}
    assert read_layouts({"a": "(b t)d"}, ("a", "b")) == {"a": "(b t)d", "b": "auto"}
