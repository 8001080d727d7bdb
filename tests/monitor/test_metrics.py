import sys
import urllib.request

import numpy as np
import pytest

pytest.importorskip("prometheus_client")

import torch
from prometheus_client import CollectorRegistry, generate_latest

from concordant import ContextualCalibrator
from concordant.errors import UsageError
from concordant.monitor import Monitor


def features(count, seed):
    draws = torch.Generator().manual_seed(seed)
    return {"a": torch.randn(count, 4, generator=draws), "b": torch.randn(count, 3, generator=draws)}


@pytest.fixture
def monitor():
    return Monitor(ContextualCalibrator({"a": 4, "b": 3}, seed=0).eval(), rate=1e-3)


def test_the_registry_has_the_numbers_of_the_moment(monitor):
    registry = CollectorRegistry()
    monitor.register(registry)
    assert generate_latest(registry) == b""  # nothing learnt yet
    monitor.learn(features(200, 0))
    monitor.update(features(10, 1))
    assert registry.get_sample_value("concordant_monitor_instances_total") == 10
    assert registry.get_sample_value("concordant_modality_state", {"modality": "a", "state": "ok"}) == 1
    assert registry.get_sample_value("concordant_alarms_total", {"modality": "a", "kind": "died"}) == 0
    bad = features(20, 2)
    bad["a"][:] = 0
    monitor.update(bad)
    assert registry.get_sample_value("concordant_monitor_instances_total") == 30
    assert registry.get_sample_value("concordant_modality_state", {"modality": "a", "state": "died"}) == 1
    assert registry.get_sample_value("concordant_modality_state", {"modality": "a", "state": "ok"}) == 0
    assert registry.get_sample_value("concordant_alarms_total", {"modality": "a", "kind": "died"}) == 1
    assert registry.get_sample_value("concordant_modality_evidence", {"modality": "a"}) >= 1
    assert registry.get_sample_value("concordant_modality_evidence", {"modality": "b"}) < 1
    assert registry.get_sample_value("concordant_modality_reliability", {"modality": "b"}) == pytest.approx(
        monitor.status["b"]["reliability"]
    )
    monitor.reset()
    assert registry.get_sample_value("concordant_alarms_total", {"modality": "a", "kind": "died"}) == 1  # a counter


def test_the_numbers_are_served_over_http(monitor):
    monitor.learn(features(50, 0))
    server = monitor.serve_metrics(0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    finally:
        server.shutdown()
        server.server_close()
    assert 'concordant_modality_state{modality="b",state="ok"} 1.0' in text


def test_a_registry_takes_one_monitor(monitor):
    registry = CollectorRegistry()
    monitor.register(registry)
    for other in (monitor, Monitor(monitor.model)):
        with pytest.raises(UsageError, match=r"registry has the metrics of a monitor already; .*of its own \(Dupl"):
            other.register(registry)


def test_a_port_that_cannot_be_had_is_refused(monitor):
    with pytest.raises(UsageError, match=r"port 99999 of 127\.0\.0\.1 cannot be served \(.*\); choose another"):
        monitor.serve_metrics(99999)


def test_without_prometheus_client_the_error_says_what_to_install(monitor, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ImportError, match=r"pip install 'concordant\[monitor\]'"):
        monitor.register()


def test_the_evidence_is_a_share_of_the_threshold_on_a_logarithmic_scale(monitor):
    registry = CollectorRegistry()
    monitor.register(registry)
    monitor.learn(features(50, 0))
    monitor.update(features(5, 3))
    expected = np.log1p(monitor.status["a"]["martingale"]) / np.log1p(monitor.threshold)
    assert registry.get_sample_value("concordant_modality_evidence", {"modality": "a"}) == pytest.approx(expected)
