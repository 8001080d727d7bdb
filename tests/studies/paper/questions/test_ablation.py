import pytest

from studies.paper.questions.ablation import ablation, place
from studies.paper.questions.scores import WORST

RESAMPLES = 50
PARTS = ("context-no-support", "context-no-conflict")


def test_differences_are_the_lead_of_the_whole_over_it_without_the_part(drawn):
    cell = drawn(ablations=PARTS)
    table = ablation([drawn("unablated"), cell], resamples=RESAMPLES)
    assert {row["family"] for row in (*table.scores, *table.rows)} == {"a"}
    scores = {(row["condition"], row["label"]): row["mean"] for row in table.scores}
    conditions = ("clean", "corruption.mean", "corruption.swap")
    assert list(scores) == [(condition, label) for condition in conditions for label in ("context", *PARTS)]
    for (condition, label), mean in scores.items():
        values = [value for run in cell.runs[label].values() for value in run.values[condition]]
        assert mean == pytest.approx(sum(values) / len(values))
    assert [(row["condition"], row["to"]) for row in table.rows] == [one for one in scores if one[1] != "context"]
    for row in table.rows:
        whole, less = (scores[row["condition"], label] for label in ("context", row["to"]))
        assert row["difference"] == pytest.approx(whole - less)


def test_places_are_those_that_a_cell_has(drawn):
    cells = [
        drawn("a", ("none", "attention", "after-fusion", "context")),
        drawn("bb", ("attention", "context")),
        drawn("ccc", ("none", "context")),
    ]
    table = place(cells, resamples=RESAMPLES)
    found = {name: [row["label"] for row in table.scores if row["family"] == name] for name in ("a", "bb", "ccc")}
    assert found == {"a": 3 * ["context", "after-fusion", "attention"], "bb": 3 * ["context", "attention"], "ccc": []}
    assert len(table.rows) == 3 * 2 + 3 * 1


def test_the_worst_removal_is_each_place_s_own(drawn):
    cells = [drawn(name, ("after-fusion", "context")) for name in ("a", "bb", "ccc", "dddd")]
    assert any(len({cell.worst_removal(label) for label in cell.labels}) == 2 for cell in cells)
    table = place(cells, resamples=RESAMPLES)
    scores = {(row["family"], row["label"]): row["mean"] for row in table.scores if row["condition"] == WORST}
    for cell in cells:
        name = cell.cell.family.name
        for label in cell.labels:
            both = [cell.means(label, f"removal.{one}").mean() for one in ("left", "right")]
            assert scores[name, label] == pytest.approx(min(both))
        (row,) = [one for one in table.rows if (one["family"], one["condition"]) == (name, WORST)]
        assert row["difference"] == pytest.approx(scores[name, "context"] - scores[name, "after-fusion"])
