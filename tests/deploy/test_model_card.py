import re

import pytest
from huggingface_hub import ModelCard

from concordant.deploy.deployed import read_description
from concordant.deploy.model_card import model_card

ODD = {"eye | hand": ("btd", (7, 3)), "ton {höhe}": ("bd", (4,)), "film": ("bcthw", (3, 5, 8, 9))}


@pytest.fixture
def card(described):
    """Return a function that makes the card of a model of odd modalities."""

    def make(calibrator="context", kind="class", modalities=ODD, **changes):
        values = described("lf-dnn", calibrator, modalities=modalities, kind=kind) | changes
        return model_card(read_description(values, "here"), 1234567)

    return make


def rows(text):
    """The cells of the table of inputs."""
    lines = [line for line in text.split("## Inputs")[1].split("\n\n")[1].splitlines()[2:] if line]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_every_modality_is_a_row_of_three_cells(card):
    assert rows(card()) == [
        [r"eye \| hand", "sequence of vectors, up to 7 steps in the dataset", "(B, T, 3)"],
        ["ton {höhe}", "vector", "(B, 4)"],
        ["film", "film (channels, frames, rows, columns), up to 5 steps in the dataset", "(B, 3, T, 8, 9)"],
    ]


def test_the_head_is_metadata_that_the_hub_reads(card):
    plain = ModelCard(card()).data
    assert (plain.library_name, plain.license, plain.datasets, plain.base_model) == ("concordant", None, None, None)
    about = {"license": "mit", "datasets": ["me/data"], "base_model": "me/base"}
    data = ModelCard(card(about=about, metrics={"accuracy": 0.91234})).data
    assert {"license": data.license, "datasets": data.datasets, "base_model": data.base_model} == about
    assert data.metrics == ["accuracy"]
    [score] = data.eval_results
    assert (score.dataset_name, score.metric_type, score.metric_value) == ("own", "accuracy", 0.9123)


@pytest.mark.parametrize(("kind", "outputs"), [("class", 3), ("real", 1)])
def test_outputs_are_as_many_as_logits_and_reliability_is_in_the_order_of_modalities(card, kind, outputs):
    text = card(kind=kind)
    assert f"out.logits                           # (B, {outputs})\n" in text
    assert "out.calibration.reliability          # (B, 3): eye | hand, ton {höhe}, film\n" in text


def test_the_python_of_the_card_is_python(card):
    code = card().split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert "from concordant.deploy.pretrained import PretrainedModel" in code


def test_classes_are_named_in_order_and_braces_in_them_are_no_fields(card):
    assert "Classes, in the order of the logits: {0}, {outputs}, %s." in card(classes=["{0}", "{outputs}", "%s"])
    text = card(kind="real", classes=["sad", "glad"])
    assert "It predicts one number: below 0 sad, else glad." in text


def test_numbers_of_the_run_are_on_the_card(card):
    text = card(seed=3)
    assert "1,234,567 parameters, trained by `concordant run` on own (protocol given, seed 3)." in text
    assert re.search(r"^steps \d+, batch \d+, .*width 16.*; encoders \w+, sizes \w+, method \w+\.$", text, re.MULTILINE)


def test_results_have_a_section_only_where_there_are_some(card):
    assert "## Results" not in card()
    table = "| method | clean |\n| --- | --- |\n| {ours} | 90.0 |"
    assert f"## Results\n\nOf all seeds of the experiment; this model is seed 0.\n\n{table}\n" in card(table=table)


def test_headings_stand_alone(card):
    for text in (card(), card("none"), card(table="x\n")):
        lines = text.split("---\n", 2)[2].split("\n")
        for place, line in enumerate(lines):
            if line.startswith("#"):
                assert lines[place - 1] == lines[place + 1] == ""


def test_a_calibrator_is_described_and_none_is_said_to_do_nothing(card):
    assert "`self`: " in card("self")
    assert "near 0 it is\nsuppressed" in card("self")
    assert "Nothing: this is the model without calibration, for comparison." in card("none")
