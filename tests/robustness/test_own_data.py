import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from concordant.errors import UsageError
from concordant.robustness.own_data import as_split, layouts_of


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, number):
        return {"a": torch.full((3,), float(number)), "s": torch.zeros(4, 2)}, number % 3


def test_tensors_become_a_part():
    split = as_split(
        {"a": torch.ones(4, 3), "s": np.zeros((4, 5, 2))},
        torch.tensor([0, 1, 0, 1]),
        ids=["x", "y", "z", "w"],
        masks={"s": torch.ones(4, 5)},
        present={"a": [1, 1, 0, 1]},
    )
    assert split.inputs["a"].dtype == np.float32
    assert split.labels.dtype == np.int64
    assert split.ids.tolist() == ["x", "y", "z", "w"]
    assert split.masks["s"].dtype == np.bool_
    assert split.present["a"].tolist() == [True, True, False, True]
    assert as_split(split) is split


def test_a_dataset_becomes_a_part():
    split = as_split(Rows())
    assert split.inputs["a"][:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert split.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert split.ids.tolist() == ["0", "1", "2", "3", "4", "5"]
    assert layouts_of(split) == {"a": "bd", "s": "btd"}


def test_bfloat16_is_read():
    values = torch.tensor([[0.5], [2.0]], dtype=torch.bfloat16)
    assert as_split({"a": values}, [0, 1]).inputs["a"].tolist() == [[0.5], [2.0]]
    assert as_split([({"a": row}, 0) for row in values]).inputs["a"].tolist() == [[0.5], [2.0]]


def test_real_labels_stay_real():
    assert as_split({"a": np.ones((2, 1))}, [0.5, -1.0]).labels.dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (({"a": np.ones((2, 3))},), "labels must be given beside features"),
        (({}, [0, 1]), "features must name one modality or more"),
        (({"a": np.ones((2, 3))}, ["cat", "dog"]), "labels must be numbers in one array, of classes their indices"),
        (({"a": [[1.0], [1.0, 2.0]]}, [0, 1]), "features of 'a' must be numbers in one array"),
        (({"a": np.ones((3, 3))}, [0, 1]), r"features of 'a' must have shape \(2, ...\); found \(3, 3\)"),
        (({"a": np.array([[np.nan], [1.0]])}, [0, 1]), "features of 'a' hold NaN or infinity"),
        (({"a": np.ones((2, 3))}, np.ones((2, 2))), r"labels must have shape \(N,\)"),
        (({"a": np.ones((2, 3))}, ["0", "1"]), r"labels must be numbers in one array, .* \(found <U1\)"),
        (({"a": np.ones((2, 3))}, [np.nan, 1.0]), "labels hold NaN or infinity"),
        (({"a": np.ones((2, 3))}, 1), r"labels must have shape \(N,\) with N of 1 or more; found \(\)"),
        (
            ({"a": np.ones((2, 3, 4))}, [0, 1], {"a": np.ones((2, 9))}),
            r"masks\['a'\] must have shape \(2, T\), T the steps of its features; found \(2, 9\)",
        ),
        (({"a": np.ones((2, 3))}, [0, 1], {}, {"a": [True]}), r"present\['a'\] must have shape \(2,\); found \(1,\)"),
        ((7,), "data must be features by modality, a torch Dataset with a length, or a split; found int"),
        ((TensorDataset(torch.ones(2, 3), torch.ones(2)),), "a Dataset must give"),
        (
            ([({"a": [1.0]}, 0), ({"b": [1.0]}, 1)],),
            r"instance 1 of the Dataset has the modalities",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(arguments, text):
    with pytest.raises(UsageError, match=text):
        as_split(*arguments[:2], **dict(zip(("masks", "present"), arguments[2:], strict=False)))


def test_all_faults_are_named_at_once():
    with pytest.raises(UsageError) as error:
        as_split({"a": np.ones((3, 3))}, [0, 1], ids=["x"], masks={"b": np.ones((2, 2))}, present={"a": np.ones(5)})
    for text in (
        "features of 'a'",
        "masks names 'b'",
        r"present['a'] must have shape (2,)",
        "ids must name 2 instances",
    ):
        assert text in str(error.value)


def test_nan_where_a_modality_is_absent_is_no_fault():
    split = as_split({"a": np.array([[np.nan], [1.0]])}, [0, 1], present={"a": [False, True]})
    assert split.present["a"].tolist() == [False, True]


def test_a_layout_has_as_many_axes_as_the_features():
    split = as_split({"a": np.ones((2, 3, 4))}, [0, 1])
    assert layouts_of(split, {"a": "bdt"}) == {"a": "bdt"}
    with pytest.raises(UsageError, match=r"must be one of bd, btd, .*bthwc with 3 axes.* found 'bxy'"):
        layouts_of(split, {"a": "bxy"})
    for wrong in ("bd", "tbd"):
        with pytest.raises(UsageError, match=r"layouts\['a'\] must be one of"):
            layouts_of(split, {"a": wrong})
