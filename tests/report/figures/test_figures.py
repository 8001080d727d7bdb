import copy
from itertools import product

import numpy as np
import pytest

from concordant.report.figures import comparison, dynamics, features, removal, severity
from concordant.report.figures.base import Figure, panels
from concordant.report.figures.compact import compact
from concordant.report.figures.dynamics import quantities, thinned
from concordant.report.figures.features import hover_text
from concordant.report.figures.severity import pooled
from concordant.report.page.sections import sections


def expanded(found):
    """Return the value that `compact` was given, with what was set apart put back."""

    def put_back(one):
        if isinstance(one, list):
            return [put_back(inner) for inner in one]
        if not isinstance(one, dict):
            return one
        if "$" in one:
            return put_back(found["pool"][one["$"]])
        style = put_back(one["&"]) if "&" in one else {}
        return {**style, **{key: put_back(inner) for key, inner in one.items() if key != "&"}}

    return put_back(found["value"])


def of(documents):
    return [figure for section in sections([documents]) for block in section.blocks for figure in block.figures]


def keys(figure):
    return ["-".join(map(str, one)) for one in product(*(range(len(one)) for one in figure.choices.values()))]


@pytest.mark.parametrize("name", ["example", "example_grid", "hostile"])
def test_plotly_takes_every_figure_and_every_variant(name, request):
    graph = pytest.importorskip("plotly.graph_objects")
    found = of(request.getfixturevalue(name))
    assert len(found) >= 11
    for figure in found:
        for spec in figure.specs:
            assert graph.Figure(spec).data


def test_every_choice_has_its_specification(example):
    for figure in of(example):
        assert len(figure.specs) == len(keys(figure))
        assert list(expanded(figure.embedded("k"))) == keys(figure)


def test_every_figure_has_title_caption_and_text_alternative(example):
    found = of(example)
    for figure in found:
        assert figure.title
        assert figure.caption.endswith(".")
        assert figure.alt.endswith(".")


def test_what_is_embedded_is_the_figure_rounded_to_four_digits(example):
    for figure in of(example):
        back = expanded(figure.embedded("k"))
        for key, spec in zip(keys(figure), figure.specs, strict=True):
            assert len(back[key]["data"]) == len(spec["data"])
            for found, trace in zip(back[key]["data"], spec["data"], strict=True):
                assert set(found) == set(trace)
                for axis in ("x", "y"):
                    if axis in trace and trace[axis] and not isinstance(trace[axis][0], str):
                        wanted = np.array(trace[axis], dtype=float)
                        np.testing.assert_allclose(np.array(found[axis], dtype=float), wanted, rtol=5.1e-4)


def test_repetitions_are_kept_once():
    row = list(range(100))
    found = compact({"a": [row, row], "b": {"x": row, "y": [1]}})
    assert found["pool"] == [row]
    assert found["value"] == {"a": [{"$": 0}, {"$": 0}], "b": {"x": {"$": 0}, "y": [1]}}
    assert expanded(found) == {"a": [row, row], "b": {"x": row, "y": [1]}}


def trace(figure, name, **panel):
    found = [one for one in figure.specs[0]["data"] if one.get("name") == name and panel.items() <= one.items()]
    assert len(found) == 1
    return found[0]


def test_the_bars_are_the_means_of_the_seeds(example):
    figure = comparison.accuracy_bars(example.results)
    mine = [run for run in example.results["runs"] if run["calibrator"] == "context"]
    bar = trace(figure, "context")
    clean = [run["clean"]["accuracy"] for run in mine]
    assert bar["x"][0] == "clean"
    assert bar["y"][0] == pytest.approx(100 * np.mean(clean))
    assert bar["error_y"]["array"][0] == pytest.approx(100 * np.std(clean, ddof=1))
    assert bar["x"][-1] == "mean of corruptions"
    corrupted = [np.mean([one["accuracy"] for one in run["corruption"].values()]) for run in mine]
    assert bar["y"][-1] == pytest.approx(100 * np.mean(corrupted))


def test_a_filled_mark_is_a_significant_difference(example):
    figure = comparison.differences(example.results)
    entries = [
        one for one in example.results["comparisons"] if one["to"] == "gmu" and "removal" not in one["condition"]
    ]
    marks = trace(figure, "minus gmu")
    assert marks["x"] == pytest.approx([100 * one["difference"] for one in entries])
    assert [not symbol.endswith("-open") for symbol in marks["marker"]["symbol"]] == [
        one["p_holm"] < 0.05 for one in entries
    ]
    high = [x + plus for x, plus in zip(marks["x"], marks["error_x"]["array"], strict=True)]
    assert high == pytest.approx([100 * one["ci95"][1] for one in entries])


def test_without_comparisons_there_is_no_figure_of_differences():
    assert comparison.differences({"comparisons": []}) is None


def test_a_severity_curve_starts_clean_and_is_the_mean_of_the_seeds(example):
    document = example.corruption
    figure = severity.severity_curves(document)
    runs = [run for run in document["runs"] if run["label"] == "gmu"]
    wanted = np.mean([[run["clean"], *run["kinds"]["impulse"]["scores"]] for run in runs], 0)
    line = trace(figure, "gmu", xaxis="x2")  # the second kind
    np.testing.assert_allclose(line["y"], 100 * wanted)
    assert line["text"][3] == "severity 3: 0.1 share of the values"
    assert figure.specs[0]["layout"]["annotations"][0]["text"] == "<b>gaussian-noise (seen)</b>"
    assert list(figure.choices["kinds"]) == ["all", "values", "steps in time", "whole instances", "images"]
    names = [one.get("name") for one in figure.specs[2]["data"]]
    assert names.count("oracle of none, perturbed") == 1  # one kind of this group


def test_one_seed_has_no_band(maker):
    one = maker.example(seeds=1)
    figure = severity.severity_curves(one.corruption)
    assert all("fill" not in trace for trace in figure.specs[0]["data"])
    several = severity.severity_curves(maker.example(seeds=2).corruption)
    assert any("fill" in trace for trace in several.specs[0]["data"])


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
    document = maker.example(modalities=("a", "b", "c")).removal
    figure = removal.subset_dots(document)
    assert figure.specs[0]["data"][0]["y"] == ["all", "a + b", "a + c", "b + c", "a alone", "b alone", "c alone"]
    runs = [run for run in document["runs"] if run["label"] == "none"]
    assert figure.specs[0]["data"][0]["x"][0] == pytest.approx(100 * np.mean([run["full"] for run in runs]))


def test_of_very_many_subsets_only_the_smallest_and_largest_are_drawn(maker):
    document = maker.example_removal(np.random.default_rng(0), seeds=1, labels=("none",), modalities=tuple("abcdef"))
    assert len(document["runs"][0]["subsets"]) == 63
    assert len(removal.subset_dots(document).specs[0]["data"][0]["y"]) == 13


def test_shapley_bars_and_the_rate_curve_are_means(example):
    runs = [run for run in example.removal["runs"] if run["label"] == "context"]
    bar = trace(removal.shapley_bars(example.removal), "context")
    assert bar["y"] == pytest.approx(
        [100 * np.mean([run["shapley"][name] for run in runs]) for name in ("audio", "image")]
    )
    line = trace(removal.rate_curve(example.removal), "context")
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
    data = figure.specs[list(found).index("reliability")]["data"]
    assert [one.get("name") for one in data if one.get("showlegend")] == ["gmu", "context"]
    runs = [run for run in example.dynamics["runs"] if run["label"] == "context"]

    def at(quantity):
        found = [
            series["value"]
            for run in runs
            for series in run["series"]
            if series["quantity"] == quantity and series["of"] == "audio"
        ]
        return np.mean(found, 0)

    low, high, middle = data[3:6]
    np.testing.assert_allclose(low["y"], at("reliability_q10"), rtol=1e-2)
    np.testing.assert_allclose(high["y"], at("reliability_q90"), rtol=1e-2)
    np.testing.assert_allclose(middle["y"], at("reliability_q50"))


def test_without_recorded_series_there_is_no_figure(example):
    document = copy.deepcopy(example.dynamics)
    for run in document["runs"]:
        run["series"] = []
    assert dynamics.training_lines(document) is None


def test_the_map_holds_every_instance_before_and_after(example):
    figure = features.feature_map(example.features)
    assert figure.choices == {"modality": ["audio", "image"], "projection": ["PCA", "t-SNE"]}
    for spec in figure.specs:
        for side in ("x", "x2"):
            assert sum(len(one["x"]) for one in spec["data"] if one["xaxis"] == side) == 400
    missing = [x for one in figure.specs[2]["data"] for x in one["x"] if x is None]
    assert len(missing) == 2  # the instance without an image, before and after


def test_a_mark_has_id_reliabilities_and_wrong_prediction(example):
    points = example.features["points"]
    wrong = next(n for n in range(400) if points["prediction"][n] != points["label"][n])
    taken = example.features["classes"][points["prediction"][wrong]]
    assert hover_text(example.features, wrong) == (
        f"{points['id'][wrong]}<br>taken for {taken}, audio {points['reliability']['audio'][wrong]:.2f}, "
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
        (heat,) = spec["data"]
        assert (heat["zmin"] + heat["zmax"]) / 2 == pytest.approx(1)
        assert heat["zmax"] >= max(max(row) for row in heat["z"])


def test_all_conditions_share_one_scale_of_agreement(example):
    found = features.agreement_maps(example.features).specs
    most = max(v for one in example.features["agreement"] for row in one["support"] for v in row)
    assert {spec["data"][0]["zmax"] for spec in found} == {most}


def test_panels_do_not_overlap():
    layout = panels(list("abcde"), most=3)
    boxes = [(layout[f"xaxis{n}"]["domain"], layout[f"yaxis{n}"]["domain"]) for n in ("", 2, 3, 4, 5)]
    for place, ((left, right), (low, high)) in enumerate(boxes):
        assert 0 <= left < right <= 1
        assert 0 <= low < high <= 1
        for (other_left, other_right), (other_low, other_high) in boxes[place + 1 :]:
            assert right < other_left or other_right < left or high < other_low or other_high < low


def test_a_figure_without_choices_is_embedded_under_no_name():
    figure = Figure("f", "t", "c", "a", [{"data": [{"type": "bar", "y": [0.123456]}], "layout": {}}])
    assert expanded(figure.embedded("k")) == {"": {"data": [{"type": "bar", "y": [0.1235]}], "layout": {}}}


def test_a_seed_that_stops_early_counts_until_then(example):
    document = copy.deepcopy(example.dynamics)
    document["runs"] = [run for run in document["runs"] if run["label"] == "context"][:2]
    long, short = document["runs"]
    long["series"] = [{"quantity": "loss", "of": "", "step": [1, 2, 3, 4], "value": [1.0, 1.0, 1.0, 1.0]}]
    short["series"] = [{"quantity": "loss", "of": "", "step": [2, 3], "value": [3.0, 3.0]}]
    low, high, middle = dynamics.training_lines(document).specs[0]["data"]
    assert (middle["x0"], middle["dx"], middle["y"]) == (1, 1, [1, 2, 2, 1])
    assert high["y"] == pytest.approx([1, 2 + 2**0.5, 2 + 2**0.5, 1], rel=1e-2)
    assert low["y"] == pytest.approx([1, 2 - 2**0.5, 2 - 2**0.5, 1], rel=1e-2)
