import copy

import numpy as np
import pytest

from concordant.report.tables import robustness


def texts(row):
    return [str(cell) for cell in row]


def column(table, name):
    return [row[list(table.columns).index(name)] for row in table.cells]


def test_removal_has_a_row_per_subset_and_per_modality(example):
    table = robustness.removal(example.removal)
    assert list(table.columns) == ["modalities present", "none, clean", "none, perturbed", "gmu", "Concordant"]
    assert [cell.text for cell in column(table, "modalities present")] == [
        *("audio", "image", "audio + image"),
        *("Shapley value of audio", "Shapley value of image", "area"),
    ]
    runs = [run for run in example.removal["runs"] if run["label"] == "none"]
    assert table.cells[3][1].value == pytest.approx(100 * np.mean([run["shapley"]["audio"] for run in runs]))
    assert [sum(cell.strong for cell in row) for row in table.cells] == [1, 1, 1, 0, 0, 1]
    full = np.mean([run["full"] for run in runs])
    assert str(robustness.removal(example.removal, retained=True).cells[2][1]) == f"{100 * full:.1f} (100.0)"


def test_each_rate_of_random_removal_has_a_row(example):
    table = robustness.removal_rates(example.removal)
    assert [cell.text for cell in column(table, "rate")] == [f"{10 * step} %" for step in range(10)]
    runs = [run for run in example.removal["runs"] if run["label"] == "context"]
    wanted = 100 * np.mean([run["rates"][9]["score"] for run in runs])
    assert column(table, "Concordant")[9].value == pytest.approx(wanted)


def test_kinds_have_a_row_each_and_the_oracle_is_never_the_best(example):
    table = robustness.corruption_kinds(example.corruption)
    names = [f"{kind['name']}{' *' if kind['seen'] else ''}" for kind in example.corruption["kinds"]]
    assert [cell.text for cell in column(table, "corruption, mean over severities")] == names
    assert [cell.text for cell in column(table, "group")][1:4] == ["values", "time", "instances"]
    assert not any(cell.strong for cell in column(table, "oracle of none, perturbed"))
    assert all(sum(cell.strong for cell in row) == 1 for row in table.cells)
    runs = [run for run in example.corruption["runs"] if run["label"] == "context"]
    wanted = 100 * np.mean([np.mean(run["kinds"]["swap"]["scores"]) for run in runs])
    assert column(table, "Concordant")[3].value == pytest.approx(wanted)


def test_the_worst_case_is_that_of_all_seeds(example):
    document = copy.deepcopy(example.corruption)
    run = next(run for run in document["runs"] if run["label"] == "gmu")
    run["worst"] = {"kind": "blur", "severity": 3, "score": 0.01}
    table = robustness.corruption_summary(document)
    assert column(table, "which is")[2].text == "blur, 3"
    assert column(table, "its score")[2].text == "1.0"
    assert str(column(table, "error")[1]) == "1.00 ± 0.00"
    assert [cell.text for cell in column(table, "reliability's error")][:2] == ["-", "-"]
    assert [cell.text for cell in column(table, "covered")] == ["-", "-", "50 %", "80 %"]


def test_a_share_that_cannot_be_computed_is_a_dash(example):
    table = robustness.covered(example.corruption)
    assert texts(table.cells[1]) == ["Concordant", "none, perturbed", "80", "80", "80", "80", "80", "-"]


@pytest.mark.parametrize("severest", [False, True])
def test_detection_by_kind_is_of_the_severities(example, severest):
    table = robustness.corruption_detection(example.corruption, severest=severest)
    runs = [run["kinds"]["swap"] for run in example.corruption["runs"] if run["label"] == "context"]
    values = [[run[what][-1] if severest else np.mean(run[what]) for run in runs] for what in ("which", "whether")]
    assert list(table.columns) == ["kind", "gmu", "Concordant"]
    assert column(table, "Concordant")[3].text == " / ".join(f"{np.mean(one):.2f}" for one in values)
    document = copy.deepcopy(example.corruption)
    document["runs"] = [run for run in document["runs"] if run["diagram"] is None]
    assert not robustness.corruption_detection(document).rows


def test_the_terminal_has_means_alone(example, shown):
    lines = shown(*robustness.corruption_terminal(example.corruption), width=80)
    assert not any("±" in line for line in lines)
    for word in ("gaussian-noise *", "covered", "error", "which / whether", "worst"):
        assert any(word in line for line in lines)


def test_an_analysis_is_called_by_its_metric(example):
    removal = robustness.removal({**example.removal, "metric": "balanced_accuracy"})
    assert removal.note.startswith("Balanced accuracy in % with only these modalities;")
    kinds = robustness.corruption_kinds({**example.corruption, "metric": "f1_macro"})
    assert kinds.note.startswith("Mean f1 macro in % over five severities")
