import copy

import pytest

from concordant.report.tables.verdict import verdict, verdict_table


def entry(to, condition, low, high):
    return {"of": "context", "to": to, "condition": condition, "difference": (low + high) / 2, "ci95": [low, high]}


def results_of(entries, which=((0.9, 0.8), (0.94, 0.84))):
    runs = [
        {
            "calibrator": "context",
            "perturbed_training": True,
            "seed": seed,
            "detection_auroc": {str(kind): {"which": one} for kind, one in enumerate(values)},
        }
        for seed, values in enumerate(which)
    ]
    return {"runs": runs, "comparisons": entries}


@pytest.mark.parametrize(
    ("low", "high", "sign", "word"),
    [
        (0.01, 0.03, 1, "helps"),
        (-0.01, 0.03, 0, "no difference shown"),
        (0.0, 0.03, 0, "no difference shown"),
        (-0.03, -0.01, -1, "hurts"),
    ],
)
def test_the_word_follows_from_the_interval(low, high, sign, word):
    first, *_ = verdict(results_of([entry("none", "clean", low, high)]))
    assert (first.title, first.sign, first.word) == ("Does Concordant help on clean data?", sign, word)
    assert first.findings[0].against == "none, clean"
    assert first.findings[0].interval == f"{100 * low:+.1f} to {100 * high:+.1f}"


def test_the_model_that_was_perturbed_alike_comes_first_and_rivals_do_not_count():
    names = ("none", "gmu", "none+perturbed")
    entries = [entry(name, "corruption.mean", 0.01, 0.03) for name in names]
    first, *_ = verdict(results_of(entries))
    assert first.title == "Does Concordant help when one modality is bad?"
    assert [one.against for one in first.findings] == ["none, perturbed", "none, clean"]
    assert [one.number for one in first.findings] == ["+2.0", "+2.0"]


def test_a_loss_without_one_modality_is_not_hidden_by_gains_without_others():
    entries = [entry("none", "clean", 0.0, 0.1)]
    ends = {"a": (0.01, 0.02), "b": (-0.05, -0.01), "c": (-0.01, 0.01)}
    entries += [entry("none", f"removal.{name}", low, high) for name, (low, high) in ends.items()]
    question = verdict(results_of(entries))[1]
    assert (question.sign, question.word) == (-1, "hurts in 1 of 3")
    assert [one.about for one in question.findings] == ["without b", "without c", "without a"]
    gains = [one for one in entries if one["condition"] != "removal.b"]
    assert verdict(results_of(gains))[1].word == "helps in 1 of 2"
    assert verdict(results_of([*entries[:1], entries[-1]]))[1].word == "no difference shown"


def test_the_interval_of_detection_is_that_of_the_mean_over_seeds():
    (*_, last) = verdict(results_of([entry("none", "clean", 0.0, 0.1)]))
    (finding,) = last.findings
    assert last.title == "Does Concordant find the bad modality?"
    assert (finding.number, finding.interval, finding.word) == ("0.87", "0.62 to 1.00", "finds it")  # 12.71 * 0.02
    for which, word in (((0.9,), (0.2,)), "not shown"), (((0.3,), (0.31,)), "misleads"), (((0.9,),), "not shown"):
        assert verdict(results_of([entry("none", "clean", 0.0, 0.1)], which))[-1].word == word
    assert len(verdict(results_of([entry("none", "clean", 0.0, 0.1)], ((None,), (None,))))) == 1


@pytest.mark.parametrize(
    ("single", "late", "sign", "word"),
    [
        ((0.01, 0.02), (0.01, 0.03), 1, "pays"),
        ((0.01, 0.02), (-0.01, 0.03), 0, "no difference shown"),
        ((0.01, 0.02), (-0.03, -0.01), -1, "below late fusion"),
        ((-0.02, -0.01), (-0.03, -0.01), -1, "below best single and late fusion"),
    ],
)
def test_fusion_that_is_below_a_baseline_is_not_hidden(single, late, sign, word):
    names = ("best single", "late fusion")
    entries = [entry("none", "clean", 0.01, 0.03), entry("gmu", "clean", 0.01, 0.03)]
    entries += [entry(name, "clean", *ends) for name, ends in zip(names, (single, late), strict=True)]
    results = results_of(entries) | {"baselines": [{"label": name, "seed": 0} for name in names]}
    last = verdict(results)[-1]
    assert (last.title, last.sign, last.word) == ("Does fusion pay on clean data?", sign, word)
    assert [one.against for one in last.findings] == list(names)
    assert verdict(results)[0].sign == 1


def test_a_grid_is_judged_over_all_its_rows(example_grid):
    found = verdict(example_grid.grid)
    assert [one.title for one in found] == [
        "Does Concordant help on clean data?",
        "Does Concordant help when one modality is bad?",
    ]


def test_nothing_is_judged_without_a_comparison(example):
    alone = copy.copy(example.results) | {"comparisons": []}
    assert verdict(alone) == []
    assert verdict_table(alone).rows == []


def test_the_table_fits_a_terminal_of_eighty_columns(example, shown):
    lines = shown(verdict_table(example.results), width=80)
    row = next(line for line in lines if "which is bad, AUROC" in line)
    assert "chance, 0.5" in row
    assert len([line for line in lines if "none, perturbed" in line]) == 4
