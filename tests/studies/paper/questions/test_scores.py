"""Scores and their comparisons, against plain loops over instances and seeds."""

import pytest

from studies.paper.questions.scores import WORST, asked_of, clean, corruption, corruption_kinds, removal

RESAMPLES = 50


def mean_of(cell, label, condition):
    """Return the mean over all seeds and instances, one by one."""
    found = [value for run in cell.runs[label].values() for value in run.values[condition]]
    return sum(found) / len(found)


def worst_of(cell, label):
    return min(mean_of(cell, label, f"removal.{name}") for name in cell.modalities)


def holm_by_hand(values):
    """Return Holm's correction: the k-th smallest of n times n - k + 1, never less than one before, at most 1."""
    found, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda one: values[one])):
        least = min(1.0, max(least, values[place] * (len(values) - rank)))
        found[place] = least
    return found


@pytest.mark.parametrize(
    ("question", "conditions"),
    [
        (clean, ["clean"]),
        (corruption, ["corruption.mean", "corruption.unseen", "corruption.seen"]),
        (corruption_kinds, ["corruption.swap", "corruption.clipping"]),
        (removal, ["removal.left", "removal.right", WORST]),
    ],
    ids=["clean", "corruption", "kinds", "removal"],
)
def test_every_number_is_a_mean_over_instances_and_seeds(drawn, question, conditions):
    cell = drawn()

    def expected(label, condition):
        return worst_of(cell, label) if condition == WORST else mean_of(cell, label, condition)

    table = question([cell], resamples=RESAMPLES)
    scores = {(row["condition"], row["label"]): row["mean"] for row in table.scores}
    assert list(scores) == [(condition, label) for condition in conditions for label in cell.labels]
    assert scores == {place: pytest.approx(expected(place[1], place[0])) for place in scores}
    assert [(row["condition"], row["of"], row["to"]) for row in table.rows] == [
        (condition, "context", label) for condition in conditions for label in ("none", "none+perturbed", "self")
    ]
    for row in table.rows:
        ours, theirs = (expected(label, row["condition"]) for label in ("context", row["to"]))
        assert row["mean_of"] == pytest.approx(ours)
        assert row["mean_to"] == pytest.approx(theirs)
        assert row["difference"] == pytest.approx(ours - theirs)
        assert row["low"] <= row["difference"] <= row["high"]


def test_deviations_are_over_seeds(drawn):
    cell = drawn(seeds=3)
    for row in clean([cell], resamples=RESAMPLES).scores:
        means = [run.values["clean"].mean() for run in cell.runs[row["label"]].values()]
        middle = sum(means) / 3
        assert row["std"] == pytest.approx((sum((one - middle) ** 2 for one in means) / 2) ** 0.5)
    assert {row["std"] for row in clean([drawn(seeds=1)], resamples=RESAMPLES).scores} == {None}


@pytest.mark.parametrize(("question", "by"), [(clean, None), (removal, None), (corruption_kinds, "family")])
def test_holm_is_over_the_table_or_over_each_family(drawn, question, by):
    cells = [drawn("a"), drawn("bb")]
    rows = question(cells, resamples=RESAMPLES).rows
    groups = [rows] if by is None else [[row for row in rows if row["family"] == name] for name in ("a", "bb")]
    for group in groups:
        assert [row["p_holm"] for row in group] == pytest.approx(holm_by_hand([row["p"] for row in group]))
    assert sum(map(len, groups)) == len(rows)


def test_the_worst_removals_that_are_compared_may_be_of_different_modalities(drawn):
    cell = drawn()
    asked = asked_of(cell, "self", WORST)
    for label, outcomes in (("context", asked.of_outcomes), ("self", asked.to_outcomes)):
        values = [value for one in outcomes.values() for value in one.values]
        assert sum(values) / len(values) == pytest.approx(worst_of(cell, label))
    turned = asked_of(cell, "context", WORST, of="self")
    assert (turned.of, turned.to) == ("self", "context")
    assert turned.of_outcomes[0].values.tolist() == asked.to_outcomes[0].values.tolist()


def test_only_the_means_that_a_cell_has_are_asked_for(drawn):
    cell = drawn()
    for label in cell.labels:
        for run in cell.runs[label].values():
            del run.values["corruption.unseen"]
    found = {row["condition"] for row in corruption([cell], resamples=RESAMPLES).scores}
    assert found == {"corruption.mean", "corruption.seen"}
