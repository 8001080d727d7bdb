import copy

from concordant.report import sentences
from concordant.report.folder import RunDocuments


def test_the_compared_methods_come_first(example):
    assert sentences.summary(example)[0] == (
        "On av-digits (audio and image) with transformer fusion, 4 methods were compared over 3 seeds: "
        "none, clean; none, perturbed; gmu; Concordant."
    )


def test_absent_documents_have_no_sentences(example):
    assert sentences.summary(RunDocuments("empty")) == []
    assert sentences.summary(RunDocuments("one", results=example.results)) == [
        *sentences.compared(example.results),
        *sentences.significant(example.results),
    ]


def entry(to, condition, difference, p):
    return {"of": "context", "to": to, "condition": condition, "difference": difference, "p_holm": p}


def test_losses_are_reported_like_wins():
    entries = [
        entry("none", "clean", -0.061, 0.01),
        entry("gmu", "clean", 0.02, 0.2),
        entry("none", "corruption.mean", 0.115, 0.0004),
        entry("gmu", "corruption.mean", 0.03, 0.049),
        entry("none", "removal.audio", 0.1, 0.001),
        entry("gmu", "removal.audio", -0.1, 0.001),
    ]
    assert sentences.significant({"comparisons": entries}) == [
        "On clean instances, Concordant is significantly worse than none, clean (-6.1 points, p 0.010); it does not "
        "differ significantly from gmu (+2.0 points, p 0.200).",
        "With one modality corrupted, Concordant is significantly better than none, clean (+11.5 points, p <0.001); "
        "and gmu (+3.0 points, p 0.049).",
        "With one modality removed, Concordant is significantly better in 1 and significantly worse in 1 of 2 "
        "comparisons.",
    ]


def test_without_comparisons_there_is_no_verdict():
    assert sentences.significant({"comparisons": []}) == []


def test_a_method_alone_is_not_called_a_comparison(maker):
    results = copy.deepcopy(maker.example(labels=("none",), seeds=1).results)
    assert sentences.compared(results) == [
        "On av-digits (audio and image) with transformer fusion, none, clean was run over 1 seed."
    ]


def test_the_worst_corruption_of_any_seed_is_named(example):
    document = copy.deepcopy(example.corruption)
    runs = [run for run in document["runs"] if run["label"] == "context"]
    runs[1]["worst"] = {"kind": "blur", "severity": 4, "score": 0.123}
    runs[1]["mean_corruption_error"] = runs[0]["mean_corruption_error"] = runs[2]["mean_corruption_error"] = 1.25
    lines = sentences.of_corruption(document)
    assert "The worst for Concordant is blur at severity 4: accuracy falls to 12.3 %." in lines
    assert (
        "In the mean over the kinds, Concordant makes 25 % more errors than its twin (mean corruption error 1.25)."
        in lines
    )


def test_the_distance_to_the_oracle_is_reported_for_our_method(example):
    lines = [line for line in sentences.of_corruption(example.corruption) if "oracle" in line]
    assert lines == ["Of the distance from its twin (none, perturbed) to the oracle, Concordant covers 80 %."]
    document = copy.deepcopy(example.corruption)
    document["covered"][-1]["share"] = -0.2
    assert "Concordant covers nothing: it is below the twin (-20 %)." in sentences.of_corruption(document)[-1]
    document["covered"][-1]["share"] = None
    assert not [line for line in sentences.of_corruption(document) if "oracle" in line]


def test_the_modality_that_carries_the_task_is_the_one_of_the_largest_shapley_value(example):
    document = copy.deepcopy(example.removal)
    for run in document["runs"]:
        run["shapley"] = {"audio": 0.6, "image": 0.2}
        run["full"] = 0.9
        for subset in run["subsets"]:
            subset["score"] = 0.3 if subset["present"] == ["image"] else 0.9
    assert sentences.of_removal(document) == [
        "For Concordant, audio carries the task: 60.0 points of accuracy, 75 % of what all bring together.",
        "Without audio, its accuracy goes from 90.0 % to 30.0 %.",
    ]
    for run in document["runs"]:
        run["shapley"] = {"audio": 0.6, "image": -0.01}
    assert "In this measure nothing comes from image." in sentences.of_removal(document)


def test_spikes_are_reported_for_the_methods_that_had_them(example):
    document = copy.deepcopy(example.dynamics)
    assert sentences.of_dynamics(document)[0] == "Training was stable: no run had a spike of the loss."
    document["summary"][0]["spikes"]["mean"] = 2.5
    expected = "Training had spikes of the loss, in the mean over seeds: none, clean 2.5; the others had none."
    assert sentences.of_dynamics(document)[0] == expected
    document["summary"][-1]["loss_variance"]["mean"] = 0.001
    lines = (
        "In the second half of training the task's loss of Concordant varies 50 % less than that of none, perturbed."
    )
    assert sentences.of_dynamics(document)[1] == lines


def test_the_least_trusted_instance_is_the_farthest_below_the_usual(example):
    lines = sentences.of_features(example.features)
    assert (
        lines[-1] == "The least trusted is the audio of instance speaker0/0000: reliability 0.05 where 0.93 is usual."
    )
    assert lines[0].startswith(
        "Calibration moves the accuracy of a linear probe on the features (in %): audio from 71.0"
    )


def test_the_losses_of_a_committed_grid_are_reported(real):
    lines = sentences.summary(real("grid-av-digits"))
    assert lines[0].startswith("On av-digits (audio and image), 8 fusions were each run with none, clean;")
    assert any(line.startswith("Clean, Concordant against gmu: -5.8 points") and "worse in 2" in line for line in lines)


def test_the_differences_of_a_committed_run_are_reported(real):
    lines = sentences.summary(real("utd-mhad"))
    assert "On clean instances, Concordant does not differ significantly from none, clean (-0.2 points" in lines[1]
    assert "With one modality corrupted, Concordant is significantly better than none, clean (+14.3 points" in lines[2]


def test_lines_of_a_grid_have_wins_and_losses_alike(maker):
    lines = sentences.grid_lines(maker.small_grid())
    assert lines[0] == (
        "clean, Concordant against none, clean: +0.0 points in the mean over 2 rows (p 1.000), above in 0; "
        "by row significantly better in 0, worse in 0"
    )
    assert lines[3] == (
        "corrupted (mean), Concordant against none, perturbed: +3.0 points in the mean over 2 rows (p 0.040), above in "
        "1; by row significantly better in 1, worse in 1"
    )
    assert (
        lines[4] == "not significantly above its best modality alone, without calibration: sum (+12.0 points, p 0.300)"
    )
    assert lines[5] == (
        "not above always saying the most frequent class: sum with none, perturbed, concat@pooled with none, perturbed"
    )
    assert len(lines) == 6


def test_a_grid_without_comparisons_has_the_fusions_below_chance_alone(maker):
    grid = maker.small_grid(alone=False)
    for row in grid["rows"]:
        row["comparisons"] = []
    assert sentences.grid_lines(grid)[0].startswith("not above always")


def test_differences_have_a_line_each():
    found = [entry("none", "clean", 0.07, 0.0004), entry("gmu", "corruption.mean", -0.012, 0.2)]
    found.append(entry("gmu", "removal.audio", -0.1, 0.001))
    assert sentences.difference_lines({"comparisons": found}) == [
        "clean, Concordant against none, clean: +7.0 points (p <0.001)",
        "corrupted (mean), Concordant against gmu: -1.2 points (not significant, p 0.200)",
    ]


def test_fusion_below_a_baseline_by_more_than_the_interval_is_said_with_what_to_try(example):
    def against(to, difference, width, condition="clean"):
        ends = [difference - width, difference + width]
        return {**entry(to, condition, difference, 0.01), "ci95": ends}

    lines = [{"label": "single", "modality": name} for name in ("audio", "audio")] + [{"label": "late"}]
    entries = [against("single", -0.041, 0.02), against("late", -0.1, 0.2), against("late", -0.1, 0.01, "x")]
    assert sentences.worth({"baselines": lines, "comparisons": entries}) == [
        "Fusion does not pay here: on clean instances Concordant is 4.1 points below the single (audio), "
        "95 % interval -6.1 to -2.1; try another recipe (--steps, --dropout, --weight-decay), a simpler fusion such "
        "as --fusion lf-dnn, or fewer --modalities."
    ]
    assert sentences.worth(example.results) == []


def test_a_grid_that_compares_nothing_over_all_rows_has_no_line_of_it(example_grid):
    grid = example_grid.grid
    partial = {**grid, "overall": []}
    assert not any("in the mean over" in line for line in sentences.grid_lines(partial))
    assert any("in the mean over" in line for line in sentences.grid_lines(grid))
