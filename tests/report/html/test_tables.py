import copy

import numpy as np
import pytest

from concordant.report.html import tables
from concordant.report.html.page import sections
from concordant.report.html.tables.base import Cell, Table, best, number, spread


def of(documents):
    return [table for section in sections([documents]) for block in section.blocks for table in block.tables]


def texts(row):
    return [cell.text for cell in row]


def column(table, name):
    return [row[table.head.index(name)] for row in table.rows]


@pytest.mark.parametrize("name", ["example", "example_grid", "hostile"])
def test_every_row_is_as_long_as_the_head(name, request):
    found = of(request.getfixturevalue(name))
    assert len({table.id for table in found}) == len(found) >= 10
    for table in found:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.head)}


def test_scores_are_means_and_the_best_of_a_column_is_marked(example):
    table = tables.scores(example.results, "k")
    assert table.head == (
        "calibrator",
        "parameters",
        "clean",
        "noise",
        "dimensions",
        "swap",
        "zero",
        "mean",
        "no audio",
        "no image",
    )
    runs = [run["clean"]["accuracy"] for run in example.results["runs"] if run["calibrator"] == "context"]
    row = table.rows[-1]
    assert texts(row)[:3] == ["context", "14,146", f"{100 * np.mean(runs):.1f} ± {100 * np.std(runs, ddof=1):.1f}"]
    assert row[2].value == pytest.approx(100 * np.mean(runs))
    for name in table.head[2:]:
        cells = column(table, name)
        assert [cell.strong for cell in cells] == [cell.value == max(one.value for one in cells) for cell in cells]


def test_a_comparison_is_strong_where_it_is_significant(example):
    table = tables.comparisons(example.results, "k")
    assert len(table.rows) == len(example.results["comparisons"])
    first = example.results["comparisons"][0]
    assert texts(table.rows[0]) == [
        "context - none, clean",
        "clean",
        f"{100 * first['difference']:+.1f}",
        f"{100 * first['ci95'][0]:+.1f} to {100 * first['ci95'][1]:+.1f}",
        "0.900",
        "-",
    ]
    strong = [cell.strong for cell in column(table, "points")]
    assert strong == [one["p_holm"] < 0.05 for one in example.results["comparisons"]]


def test_only_methods_with_a_reliability_are_in_the_table_of_detection(example):
    table = tables.detection(example.results, "k")
    assert [cell.text for cell in column(table, "calibrator")] == ["gmu", "context"]
    blind = copy.deepcopy(example.results)
    for run in blind["runs"]:
        run["detection_auroc"] = {kind: {"which": None, "whether": None} for kind in run["detection_auroc"]}
    assert tables.detection(blind, "k") is None


def test_removal_has_a_column_a_subset_and_a_modality(example):
    table = tables.removal(example.removal, "k")
    assert table.head == (
        "calibrator",
        "audio + image",
        "audio",
        "image",
        "Shapley audio",
        "Shapley image",
        "rate area",
    )
    runs = [run for run in example.removal["runs"] if run["label"] == "none"]
    wanted = 100 * np.mean([run["shapley"]["audio"] for run in runs])
    assert column(table, "Shapley audio")[0].value == pytest.approx(wanted)


def test_kinds_have_a_row_each_and_the_oracle_is_never_the_best(example):
    table = tables.corruption_kinds(example.corruption, "k")
    assert [cell.text for cell in column(table, "kind")] == [kind["name"] for kind in example.corruption["kinds"]]
    assert [cell.text for cell in column(table, "seen")] == ["yes", "no", "no", "yes", "no"]
    assert not any(cell.strong for cell in column(table, "oracle of none, perturbed"))
    assert all(sum(cell.strong for cell in row) == 1 for row in table.rows)


def test_the_worst_case_is_that_of_all_seeds(example):
    document = copy.deepcopy(example.corruption)
    next(run for run in document["runs"] if run["label"] == "gmu")["worst"] = {
        "kind": "blur",
        "severity": 3,
        "score": 0.01,
    }
    table = tables.corruption_summary(document, "k")
    assert column(table, "worst case")[2].text == "blur, severity 3"
    assert column(table, "its score")[2].text == "1.0"
    assert [cell.text for cell in column(table, "mean corruption error")][1] == "1.000 ± 0.000"
    assert [cell.text for cell in column(table, "reliability error")][:2] == ["-", "-"]


def test_a_share_that_cannot_be_told_is_a_dash(example):
    table = tables.covered(example.corruption, "k")
    assert texts(table.rows[1]) == ["context", "none, perturbed", "80", "80", "80", "80", "80", "-"]


def test_detection_by_kind_is_the_mean_of_severities(example):
    table = tables.corruption_detection(example.corruption, "k")
    runs = [run for run in example.corruption["runs"] if run["label"] == "context"]
    wanted = np.mean([run["kinds"]["swap"]["which"] for run in runs])
    assert table.rows[3][table.head.index("context, which")].value == pytest.approx(wanted)


def test_stability_has_no_spread_with_one_seed(example):
    document = copy.deepcopy(example.dynamics)
    assert texts(tables.stability(document, "k").rows[0])[1:5] == [
        "0.003 ± 0.0003",
        "0.0 ± 0.0",
        "88.0 ± 1.0",
        "0.012 ± 0.002",
    ]
    document["summary"][0]["final_score"]["std"] = None
    document["summary"][0]["sharpness"] = {"mean": None, "std": None}
    assert texts(tables.stability(document, "k").rows[0])[3:5] == ["88.0", "-"]


def test_separation_and_distrusted_instances_are_set_as_they_are(example):
    table = tables.separation(example.features, "k")
    assert texts(table.rows[0]) == ["audio", "0.110", "0.180", "71.0", "76.0"]
    first = texts(tables.distrusted(example.features, "k").rows[0])
    assert first[:5] == ["speaker0/0000", "audio", "0.05", "0.93", "-6.0"]
    assert first[7:] == ["no", "-", "image"]
    assert tables.distrusted({**example.features, "distrusted": []}, "k") is None


def test_the_grid_is_the_one_of_the_terminal(real):
    table = tables.grid_scores(real("grid-av-digits").grid, "k")
    assert table.head[:3] == ("fusion", "calibrated at", "best alone")
    assert len(table.rows) == 8
    assert table.rows[-1][0].text == "concat@pooled"


def test_checks_say_of_which_dataset(example):
    table = tables.checks(example.checks, "k")
    assert texts(table.rows[0])[:3] == ["data/av-digits", "warning", "audio"]
    assert tables.checks([], "k") is None


def test_all_runs_and_rows_are_in_one_table(real, example):
    grid = real("grid-av-digits")
    compared = [tables.of_results("one", example.results, example.corruption), *tables.of_grid("two", grid.grid, {})]
    table = tables.joint(compared, "k")
    assert len(table.rows) == 4 + 8 * 5
    assert [cell.text for cell in column(table, "run")].count("two") == 40
    ours = table.rows[3]
    assert texts(ours)[3] == "context"
    assert texts(ours)[-2:] == ["-", "-"]
    assert column(table, "all corruptions")[4].text == "-"
    entry = next(one for one in example.results["comparisons"] if one["condition"] == "corruption.mean")
    assert column(table, "ours minus it")[0].text == f"{100 * entry['difference']:+.1f}"
    plain = tables.joint(compared[1:], "k")
    assert "all corruptions" not in plain.head


def test_a_column_of_numbers_and_dashes_is_numeric():
    rows = ((Cell("a"), Cell("1", 1.0), Cell("x")), (Cell("b"), Cell("-"), Cell("-")))
    assert Table("t", "c", ("n", "v", "w"), rows).numeric == (False, True, False)


def test_numbers_are_set_with_sign_scale_and_spread():
    assert number(0.123, 1, sign=True) == Cell("+12.3", pytest.approx(12.3))
    assert number(None) == Cell("-")
    assert spread([0.5, None]) == Cell("50.0", 50.0)
    assert spread([]) == Cell("-")
    assert best([(Cell("a"), Cell("1", 1.0)), (Cell("b"), Cell("2", 2.0))], 1)[1][1].strong
    assert not best([(Cell("a"), Cell("1", 1.0))], 1)[0][1].strong


def test_an_analysis_is_called_by_its_metric(example):
    removal = tables.removal({**example.removal, "metric": "balanced_accuracy"}, "k")
    assert removal.note.startswith("Balanced accuracy in % with only these modalities;")
    kinds = tables.corruption_kinds({**example.corruption, "metric": "f1_macro"}, "k")
    assert kinds.note.startswith("Mean f1 macro in % over five severities")
