import numpy as np
import pytest

pytest.importorskip("datasets")

from concordant.data.card import Card, LabelCard, ModalityCard, Source
from concordant.data.description import describe
from concordant.data.store import Instance
from concordant.data.writing import write_store
from concordant.errors import DataError


def test_the_card_says_all_that_is_known(tmp_path):
    card = Card(
        name="toy",
        modalities={
            "audio": ModalityCard(
                kind="audio", layout="btd", shape=(None, 2), unit="log power", rate=100, preprocessing={"hop": 160}
            ),
            "image": ModalityCard(kind="vision", layout="bchw", shape=(1, 2, 2), dtype="float16"),
        },
        label=LabelCard(classes=("yes|no", "other")),
        groups="speaker",
        splits=("train",),
        sources=(Source(file="a.wav", sha256="0" * 64),),
        repairs={"audio": "1 of 10 values replaced by 0 (1 NaN)"},
        notes=("a | b",),
    )
    features = [
        {"audio": np.ones((3, 2)), "image": np.ones((1, 2, 2))},
        {"audio": None, "image": np.zeros((1, 2, 2))},
    ]
    rows = (Instance(f"i{k}", "train", k, one, "s") for k, one in enumerate(features))
    write_store(tmp_path / "toy", card, rows)
    text = describe(tmp_path / "toy")
    for line in (
        "# toy",
        "2 instances of 2 modalities; label: one of 2 classes: yes\\|no, other.",
        "| train | 2 |",
        "Groups: 1, by speaker.",
        "| audio | audio | btd | T x 2 | float32 | log power | 100 Hz | 50.0 % | 3 to 3, median 3 |",
        "| image | vision | bchw | 1 x 2 x 2 | float16 | - | - | 0.0 % | - |",
        '- audio: `{"hop": 160}`',
        "- audio: 1 of 10 values replaced by 0 (1 NaN)",
        "- a \\| b",
        f"| `a.wav` | `{'0' * 64}` |",
    ):
        assert line in text.split("\n")
    code = text.partition("```python\n")[2].partition("```")[0]
    space = {}
    exec(code, space)  # noqa: S102 - the card's own example
    assert len(space["store"]) == 2


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"is no dataset of Concordant"):
        describe(tmp_path)
