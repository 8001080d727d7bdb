import re

import numpy as np
import pytest

from concordant.data.card import ModalityCard
from concordant.data.formats.own import label_card, own_card
from concordant.errors import DataError


@pytest.mark.parametrize(
    ("values", "classes", "wanted", "names"),
    [
        (np.array([0, 2, 1]), (), [0, 2, 1], ("0", "1", "2")),
        (np.array([7, -1, 7]), (), [1, 0, 1], ("-1", "7")),
        (np.array(["b", "a"]), (), [1, 0], ("a", "b")),
        (np.array(["b", "a"]), ("b", "a"), [0, 1], ("b", "a")),
        (np.array([True, False]), (), [1, 0], ("False", "True")),
        (np.array([0, 0]), ("no", "yes"), [0, 0], ("no", "yes")),
        (np.array([0.5, -1.0]), (), [0.5, -1.0], ()),
    ],
)
def test_labels_become_class_indices_or_numbers(values, classes, wanted, names):
    found, card = label_card(values, "here", classes)
    assert found.tolist() == wanted
    assert card.classes == names
    assert card.kind == ("class" if names else "real")


@pytest.mark.parametrize(
    ("values", "classes", "said"),
    [
        (np.array([0.5, np.nan]), (), "here: every label must be finite as float32; found 1 that are not"),
        (np.array([0.5, 1e39, -1e300, np.inf]), (), "here: every label must be finite as float32; found 3 that are"),
        (np.array([0.0, 1.0]), ("a", "b"), "here: labels are float64, so they are numbers to predict and have no"),
        (np.array([1, 1]), (), "here: labels must be of two classes at least; found only [1]"),
        (np.array([0, 2]), ("a", "b"), "here: labels must be 0 to 1; found 0 to 2"),
        (np.array(["a", "c"]), ("a", "b"), "here: c is no class; choose from: a, b"),
        (np.array([0, 0]), ("a",), "here: classes: a label of kind 'class' needs two classes or more; found 1"),
        (np.array([0, 1]), ("a", "a"), "here: classes: every class may be named once; found 'a' again"),
        (np.array(["b", "a"]), ("a", "b", "a"), "here: classes: every class may be named once; found 'a' again"),
        (np.array([1j]), (), "here: labels must be whole numbers, text, or floating point; found complex128"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(values, classes, said):
    with pytest.raises(DataError, match=re.escape(said)):
        label_card(values, "here", classes)


def card(modalities, splits=None):
    label = label_card(np.array([0, 1]), "here")[1]
    return own_card("own", modalities, label, splits, grouped=False, sources=(), where="here")


def test_cards_say_which_splits_there_are():
    audio = {"audio": ModalityCard(layout="bd", shape=(3,))}
    assert card(audio).splits == ("all",)
    assert card(audio).notes == ("the data have no splits: every seed tests on one of five folds",)
    assert card(audio, np.array(["test", "train"])).splits == ("train", "test")
    with pytest.raises(DataError, match=r"here: split must be one of train, valid, test; found dev"):
        card(audio, np.array(["dev", "train"]))


def test_modalities_need_a_name_that_is_free():
    with pytest.raises(DataError, match=r"here has no modality; docs/own-data\.md says how"):
        card({})
    with pytest.raises(DataError, match=r"here: a modality cannot be called 'label'; these names are taken"):
        card({"label": ModalityCard(layout="bd", shape=(3,))})
