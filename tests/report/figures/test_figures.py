import copy
from itertools import product

import numpy as np
import pytest

from concordant.report.figures import comparison, dynamics, features, removal, severity
from concordant.report.figures.base import Figure
from concordant.report.figures.dynamics import quantities, thinned
from concordant.report.figures.features import hover_text
from concordant.report.figures.severity import pooled
from concordant.report.page.sections import sections


def of(documents):
    return [figure for section in sections([documents]) for block in section.blocks for figure in block.figures]


def keys(figure):
    return ["-".join(map(str, one)) for one in product(*(range(len(one)) for one in figure.choices.values()))]


@pytest.mark.parametrize("name", ["example", "example_grid", "hostile"])
def test_marks_have_a_series_and_values_of_one_length(name, request):
    found = of(request.getfixturevalue(name))
    assert len(found) >= 11
    for figure in found:
        for spec in figure.specs:
            for mark in (mark for panel in spec["panels"] for mark in panel["marks"]):
                assert mark["k"] in ("line", "dots", "cloud", "heat", "diagonal")
                if mark["k"] in ("line", "dots"):
                    series = mark["s"] if mark["k"] == "dots" else [mark["s"]]
                    assert all(0 <= place < len(figure.series) for place in series)
                    lengths = {len(mark[key]) for key in ("x", "y", "low", "high", "text", "size") if key in mark}
                    assert len(lengths) == 1


def test_a_panel_has_ten_marks_or_a_few_lines(example, example_grid):
    for figure in [*of(example), *of(example_grid)]:
        for panel in (panel for spec in figure.specs for panel in spec["panels"]):
            for mark in panel["marks"]:
                assert mark["k"] != "dots" or len(mark["x"]) <= 10
            assert sum(mark["k"] == "line" for mark in panel["marks"]) <= 10


def test_every_choice_has_its_specification(example):
    for figure in of(example):
        assert len(figure.specs) == len(keys(figure))
        assert list(figure.embedded("k")["specs"]) == keys(figure)


def test_every_figure_has_title_caption_and_text_alternative(example):
    found = of(example)
    for figure in found:
        assert figure.title
        assert figure.caption.endswith(".")
        assert figure.alt.endswith(".")


def panel_of(figure, title, spec=0):
    (found,) = [one for one in figure.specs[spec]["panels"] if one["title"] == title]
    return found


def place_of(figure, name):
    return [one["name"] for one in figure.series].index(name)


def dot(figure, title, name):
    """Return a mark of a panel of rows: x, low, high, open, text."""
    (mark,) = panel_of(figure, title)["marks"]
    row = mark["s"].index(place_of(figure, name))
    return {key: mark[key][row] for key in ("x", "low", "high", "open", "text")}


def line_of(figure, title, name, spec=0):
    marks = panel_of(figure, title, spec)["marks"]
    (found,) = [one for one in marks if one["k"] == "line" and one["s"] == place_of(figure, name)]
    return found


def test_marks_are_the_means_of_the_seeds(example):
    figure = comparison.accuracies(example.results)
    mine = [run for run in example.results["runs"] if run["calibrator"] == "context"]
    clean = [100 * run["clean"]["accuracy"] for run in mine]
    found = dot(figure, "clean", "Concordant")
    assert found["x"] == pytest.approx(np.mean(clean))
    assert found["high"] - found["x"] == found["x"] - found["low"] == pytest.approx(np.std(clean, ddof=1))
    corrupted = [np.mean([one["accuracy"] for one in run["corruption"].values()]) for run in mine]
    assert dot(figure, "mean of corruptions", "Concordant")["x"] == pytest.approx(100 * np.mean(corrupted))


def test_a_filled_mark_is_a_significant_difference(example):
    figure = comparison.differences(example.results)
    entries = {one["condition"]: one for one in example.results["comparisons"] if one["to"] == "gmu"}
    for condition, title in (("clean", "clean"), ("corruption.swap", "swap")):
        found, entry = dot(figure, title, "gmu"), entries[condition]
        values = [100 * one for one in (entry["difference"], *entry["ci95"])]
        assert [found[key] for key in ("x", "low", "high")] == pytest.approx(values)
        assert found["open"] == (entry["p_holm"] >= 0.05)


def test_without_comparisons_there_is_no_figure_of_differences():
    assert comparison.differences({"comparisons": []}) is None


def test_a_severity_curve_starts_clean_and_is_the_mean_of_the_seeds(example):
    document = example.corruption
    figure = severity.severity_curves(document)
    runs = [run for run in document["runs"] if run["label"] == "gmu"]
    wanted = np.mean([[run["clean"], *run["kinds"]["impulse"]["scores"]] for run in runs], 0)
    line = line_of(figure, "impulse", "gmu")
    np.testing.assert_allclose(line["y"], 100 * wanted)
    assert line["text"][3] == "severity 3: 0.1 share of the values"
    assert figure.specs[0]["panels"][0]["title"] == "gaussian-noise (seen)"
    assert list(figure.choices["kinds"]) == ["all", "values", "steps in time", "whole instances", "images"]


def test_the_oracle_is_nowhere_below_the_twin_that_it_bounds(example):
    document = copy.deepcopy(example.corruption)
    document["oracle"][0]["kinds"]["impulse"]["scores"] = [0.0] * 5
    figure = severity.severity_curves(document)
    for kind in document["kinds"]:
        title = f"{kind['name']}{' (seen)' if kind['seen'] else ''}"
        twin = line_of(figure, title, "none, perturbed")["y"][1:]
        oracle = line_of(figure, title, "oracle of none, perturbed")
        assert all(a >= b for a, b in zip(oracle["y"], twin, strict=True))
        assert oracle["from"] == 1


def test_one_seed_has_no_band(maker):
    for seeds in (1, 2):
        figure = severity.severity_curves(maker.example_corruption(np.random.default_rng(0), seeds=seeds))
        bands = ["low" in mark for panel in figure.specs[0]["panels"] for mark in panel["marks"]]
        assert any(bands) == (seeds == 2)


def test_a_corruption_without_kinds_or_reliabilities_has_no_figure(example):
    document = copy.deepcopy(example.corruption)
    document["kinds"] = []
    for run in document["runs"]:
        run["diagram"] = None
    assert severity.severity_curves(document) is None
    assert severity.reliability_diagram(document) is None


def test_bins_are_pooled_by_their_counts():
    one = {"predicted": [0.1, None], "intact": [0.0, None], "count": [1, 0]}
    two = {"predicted": [0.2, 0.8], "intact": [0.4, 1.0], "count": [3, 5]}
    (first, second) = pooled([one, two])
    assert first == pytest.approx((0.175, 0.3, 4))
    assert second == pytest.approx((0.8, 1.0, 5))


def test_subsets_stand_from_the_whole_to_single_modalities(maker):
    document = maker.example_removal(np.random.default_rng(0), modalities=("a", "b", "c"))
    figure = removal.subset_scores(document)
    titles = [panel["title"] for panel in figure.specs[0]["panels"]]
    assert titles == ["all", "a + b", "a + c", "b + c", "a alone", "b alone", "c alone"]
    runs = [run for run in document["runs"] if run["label"] == "none"]
    assert dot(figure, "all", "none, clean")["x"] == pytest.approx(100 * np.mean([run["full"] for run in runs]))


def test_of_very_many_subsets_only_the_smallest_and_largest_are_drawn(maker):
    document = maker.example_removal(np.random.default_rng(0), seeds=1, labels=("none",), modalities=tuple("abcdef"))
    assert len(document["runs"][0]["subsets"]) == 63
    assert len(removal.subset_scores(document).specs[0]["panels"]) == 13


def test_shapley_values_and_the_rate_curve_are_means(example):
    runs = [run for run in example.removal["runs"] if run["label"] == "context"]
    figure = removal.shapley_values(example.removal)
    for name in ("audio", "image"):
        wanted = 100 * np.mean([run["shapley"][name] for run in runs])
        assert dot(figure, name, "Concordant")["x"] == pytest.approx(wanted)
    line = line_of(removal.rate_curve(example.removal), "", "Concordant")
    assert line["x"] == example.removal["rates"]
    assert line["y"][-1] == pytest.approx(100 * np.mean([run["rates"][-1]["score"] for run in runs]))


def test_without_rates_there_is_no_curve(example):
    document = copy.deepcopy(example.removal)
    for run in document["runs"]:
        run["rates"] = []
    assert removal.rate_curve(document) is None


def test_long_series_are_thinned_to_means_of_stretches():
    steps, values = thinned(list(range(1, 101)), [float(one) for one in range(1, 101)], 10)
    assert steps == list(range(10, 101, 10))
    assert values == [5.5 + 10 * one for one in range(10)]
    assert thinned([1, 2], [None, 3.0], 10) == ([1, 2], [None, 3.0])


def test_quantiles_are_one_quantity_with_a_band(example):
    found = quantities(example.dynamics)
    assert list(found) == [
        "task_loss",
        "loss",
        "validation_loss",
        "validation_score",
        "gradient_norm",
        "conflict",
        "update_ratio",
        "probe",
        "reliability",
        "gate",
    ]
    assert found["conflict"] == ["audio|image"]
    figure = dynamics.training_lines(example.dynamics)
    place = list(found).index("reliability")
    drawn = {figure.series[mark["s"]]["name"] for mark in panel_of(figure, "audio", place)["marks"]}
    assert drawn == {"gmu", "Concordant"}
    runs = [run for run in example.dynamics["runs"] if run["label"] == "context"]

    def at(quantity):
        found = [
            series["value"]
            for run in runs
            for series in run["series"]
            if series["quantity"] == quantity and series["of"] == "audio"
        ]
        return np.mean(found, 0)

    line = line_of(figure, "audio", "Concordant", place)
    for key, quantile in (("low", "q10"), ("y", "q50"), ("high", "q90")):
        np.testing.assert_allclose(line[key], at(f"reliability_{quantile}"))


def test_without_recorded_series_there_is_no_figure(example):
    document = copy.deepcopy(example.dynamics)
    for run in document["runs"]:
        run["series"] = []
    assert dynamics.training_lines(document) is None


def test_the_map_holds_every_instance_before_and_after(example):
    figure = features.feature_map(example.features)
    assert figure.choices == {"modality": ["audio", "image"], "projection": ["PCA", "t-SNE"]}
    for spec in figure.specs:
        assert [panel["title"] for panel in spec["panels"]] == ["before calibration", "after calibration"]
        assert all(len(panel["marks"][0]["x"]) == 400 for panel in spec["panels"])
    missing = [x for panel in figure.specs[2]["panels"] for x in panel["marks"][0]["x"] if x is None]
    assert len(missing) == 2  # the instance without an image, before and after
    assert [one["name"] for one in figure.series] == [f"digit {number}" for number in range(10)]
    assert figure.points["of"] == example.features["points"]["label"]


def test_a_mark_has_id_reliabilities_and_wrong_prediction(example):
    points = example.features["points"]
    wrong = next(n for n in range(400) if points["prediction"][n] != points["label"][n])
    taken = example.features["classes"][points["prediction"][wrong]]
    assert hover_text(example.features, wrong) == (
        f"{points['id'][wrong]}\ntaken for {taken}, audio {points['reliability']['audio'][wrong]:.2f}, "
        f"image {points['reliability']['image'][wrong]:.2f}"
    )


def test_features_without_maps_gates_or_agreement_have_no_figure(example):
    document = copy.deepcopy(example.features)
    document["points"]["maps"] = {}
    document["gates"]["by_class"] = {}
    document["agreement"] = []
    assert features.feature_map(document) is None
    assert features.gate_maps(document) is None
    assert features.agreement_maps(document) is None


def test_one_is_the_middle_of_the_gates_colours(example):
    for spec in features.gate_maps(example.features).specs:
        (heat,) = spec["panels"][0]["marks"]
        assert (heat["low"] + heat["high"]) / 2 == pytest.approx(1)
        assert heat["high"] >= max(max(row) for row in heat["z"])


def test_all_conditions_share_one_scale_of_agreement(example):
    found = features.agreement_maps(example.features).specs
    most = max(v for one in example.features["agreement"] for row in one["support"] for v in row)
    assert {spec["panels"][0]["marks"][0]["high"] for spec in found} == {most}


def test_a_figure_without_choices_is_embedded_under_no_name_with_rounded_numbers():
    figure = Figure("f", "t", "c", "a", [], [{"panels": [{"marks": [{"k": "line", "y": [0.123456]}]}]}])
    assert figure.embedded("k")["specs"] == {"": {"panels": [{"marks": [{"k": "line", "y": [0.1235]}]}]}}


def test_a_seed_that_stops_early_counts_until_then(example):
    document = copy.deepcopy(example.dynamics)
    document["runs"] = [run for run in document["runs"] if run["label"] == "context"][:2]
    long, short = document["runs"]
    long["series"] = [{"quantity": "loss", "of": "", "step": [1, 2, 3, 4], "value": [1.0, 1.0, 1.0, 1.0]}]
    short["series"] = [{"quantity": "loss", "of": "", "step": [2, 3], "value": [3.0, 3.0]}]
    line = line_of(dynamics.training_lines(document), "", "Concordant")
    assert (line["from"], line["by"], line["y"]) == (1, 1, [1, 2, 2, 1])
    assert line["high"] == pytest.approx([1, 2 + 2**0.5, 2 + 2**0.5, 1])
    assert line["low"] == pytest.approx([1, 2 - 2**0.5, 2 - 2**0.5, 1])
