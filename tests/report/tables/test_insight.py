import copy
from types import SimpleNamespace

from concordant.report.tables import insight


def texts(row):
    return [str(cell) for cell in row]


def test_stability_has_no_deviation_with_one_seed(example):
    document = copy.deepcopy(example.dynamics)
    wanted = ["0.003 ± 0.0003", "0.0 ± 0.0", "88.0 ± 1.0", "0.012 ± 0.002"]
    assert texts(insight.stability(document).cells[0])[1:5] == wanted
    document["summary"][0]["final_score"]["std"] = None
    document["summary"][0]["sharpness"] = {"mean": None, "std": None}
    assert texts(insight.stability(document).cells[0])[3:5] == ["88.0", "-"]


def test_separation_and_distrusted_instances_are_shown_as_they_are(example):
    assert texts(insight.separation(example.features).cells[0]) == ["audio", "0.110", "0.180", "71.0", "76.0"]
    first = texts(insight.distrusted(example.features).cells[0])
    assert first[:5] == ["speaker0/0000", "audio", "0.05", "0.93", "-6.0"]
    assert first[7:] == ["no", "-", "image"]
    assert not insight.distrusted({**example.features, "distrusted": []}).rows
    assert len(insight.distrusted(example.features, 2).rows) == 2


def test_checks_name_their_dataset(example):
    assert texts(insight.checks(example.checks).cells[0])[:3] == ["data/av-digits", "warning", "audio"]
    assert not insight.checks([]).rows


def test_an_explanation_has_a_row_per_modality(shown):
    there = SimpleNamespace(
        modality="left",
        present=True,
        reliability=0.4,
        z=-2.5,
        usual=0.9,
        supported_by=[("right", 0.25)],
        contradicted_by=[],
        down=[(3, 0.5, 1.0), (4, 0.6, 1.1)],
        up=[],
    )
    absent = SimpleNamespace(modality="right", present=False, usual=0.8)
    found = SimpleNamespace(id="7", label="one", prediction="two", right=False, verdicts=[there, absent])
    lines = shown(insight.explanation(found))
    assert lines[0] == "7: one, taken for two (wrong)"
    text = " ".join(" ".join(lines).split())
    assert "left 0.40 (-2.5 sd) 0.90 right 0.25 - 3: 0.50 (usual 1.00) - 4: 0.60 (usual 1.10)" in text
    assert "right absent 0.80" in text
