import numpy as np
import pytest
import torch
from torch import nn

from concordant import ContextualCalibrator
from concordant.analysis import LoopRecorder, measure_corruption, measure_features, measure_removal
from concordant.errors import UsageError
from concordant.report.page.own import write_own_report


@pytest.fixture(scope="module")
def measured():
    torch.manual_seed(0)
    labels = np.arange(120) % 3
    draws = np.random.default_rng(0)
    x = {m: (np.eye(3, 5)[labels] + draws.standard_normal((120, 5))).astype(np.float32) for m in ("a", "b")}
    head = nn.Linear(10, 3)
    calibrator = ContextualCalibrator({"a": 5, "b": 5}, layouts="bd", seed=0)

    def plain(features):
        return head(torch.cat([features["a"], features["b"]], 1))

    def ours(features):
        return plain(calibrator(features).features)

    recorder = LoopRecorder({"head": head}, every=1)
    optimizer = torch.optim.SGD(head.parameters(), 0.1)
    for _ in range(12):
        loss = nn.functional.cross_entropy(plain({m: torch.from_numpy(v) for m, v in x.items()}), torch.tensor(labels))
        with recorder.step(loss):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    recorder.evaluated(validation_score=0.8, probes={"a": 0.5, "b": 0.6})
    calibrator.eval()
    kinds = ["gaussian-noise", "swap"]
    models = {"plain": plain, "ours": ours}
    return {
        "removal": {name: measure_removal(model, x, labels) for name, model in models.items()},
        "corruption": {name: measure_corruption(model, x, labels, kinds=kinds) for name, model in models.items()},
        "dynamics": {"ours": recorder},
        "features": measure_features(calibrator, x, labels),
    }


def test_a_page_has_every_analysis_that_is_given(measured, tmp_path):
    write_own_report(tmp_path / "page.html", name="my robot", twin="plain", **measured)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "my robot" in text
    for title in ("Accuracy by severity", "Shapley", "What happened while training", "Features before and after"):
        assert title in text


def test_a_page_of_one_analysis_is_a_page(measured, tmp_path):
    write_own_report(tmp_path / "page.html", name="mine", removal=measured["removal"])
    assert "Shapley" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_curves_of_other_rates_do_not_share_a_figure(measured, tmp_path):
    plain = measured["removal"]["plain"]
    other = {**plain, "rates": [{**one, "rate": one["rate"] / 2} for one in plain["rates"]]}
    with pytest.raises(UsageError, match="measured on different things: rates differs between them"):
        write_own_report(tmp_path / "page.html", name="mine", removal={"plain": plain, "ours": other})


def test_the_twin_has_every_seed_of_the_others(measured, tmp_path):
    found = {"plain": measured["corruption"]["plain"], "ours": [measured["corruption"]["ours"]] * 2}
    with pytest.raises(UsageError, match="the twin 'plain' has no seed 1, which other models have"):
        write_own_report(tmp_path / "page.html", name="mine", corruption=found, twin="plain")


def test_seeds_are_a_list(measured, tmp_path):
    both = {"ours": [measured["removal"]["ours"]] * 2}
    write_own_report(tmp_path / "page.html", name="mine", removal=both)
    assert (tmp_path / "page.html").stat().st_size > 1e4


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, "nothing to report: give removal, corruption, dynamics or features"),
        ({"removal": {}}, "removal names no model"),
        ({"dynamics": {}}, "dynamics names no model"),
        ({"corruption": "CORRUPTION", "twin": "other"}, "twin must be one of the models of corruption, plain, ours"),
        ({"removal": "MIXED"}, "removal of the models was measured on different things: modalities"),
    ],
)
def test_wrong_arguments_are_refused(measured, tmp_path, change, text):
    mixed = {"a": measured["removal"]["ours"], "b": {**measured["removal"]["ours"], "modalities": ["x"]}}
    known = {"CORRUPTION": measured["corruption"], "MIXED": mixed}
    given = {key: known.get(value, value) if isinstance(value, str) else value for key, value in change.items()}
    with pytest.raises(UsageError, match=text):
        write_own_report(tmp_path / "page.html", name="mine", **given)
