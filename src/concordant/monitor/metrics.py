"""Metrics of a monitor for Prometheus; the one module that imports prometheus_client.

Numbers are read when they are asked for, so that the stream is not slowed down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from concordant.errors import UsageError, foreign, needs_extra
from concordant.monitor.alarm import KINDS

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from concordant.monitor.monitor import Monitor

STATES = ("ok", *KINDS)


class MonitorCollector:
    """Collector of a monitor's metrics for a Prometheus registry."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    def describe(self) -> list[Any]:
        """Return the metrics without numbers; the registry refuses another monitor's by their names."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        return [
            CounterMetricFamily("concordant_monitor_instances", "Instances seen since the monitor learnt"),
            GaugeMetricFamily(
                "concordant_modality_state", "1 for the state that a modality is in", labels=["modality", "state"]
            ),
            GaugeMetricFamily(
                "concordant_modality_reliability",
                "Place of the last reliabilities among the clean ones; 0.5 is usual",
                labels=["modality"],
            ),
            GaugeMetricFamily(
                "concordant_modality_evidence",
                "Logarithm of the largest statistic of a modality's tests, over that of the threshold; 1 raises an "
                "alarm",
                labels=["modality"],
            ),
            CounterMetricFamily("concordant_alarms", "Alarms raised", labels=["modality", "kind"]),
        ]

    def collect(self) -> Iterator[Any]:
        """Yield the metrics; none before the monitor has learnt."""
        if not self.monitor.learnt:
            return
        watch, status = self.monitor.watch, self.monitor.status
        instances, state, reliability, evidence, alarms = self.describe()
        instances.add_metric([], watch.number)
        for name, known in status.items():
            for one in STATES:
                state.add_metric([name, one], float(known["state"] == one))
            if known["reliability"] is not None:
                reliability.add_metric([name], known["reliability"])
            evidence.add_metric([name], math.log1p(known["martingale"]) / math.log1p(watch.threshold))
            for kind in KINDS:
                alarms.add_metric([name, kind], watch.raised[name, kind])
        yield from (instances, state, reliability, evidence, alarms)


def register(monitor: Monitor, registry: CollectorRegistry | None = None) -> None:
    """Register the metrics of a monitor, by default with prometheus_client's global registry.

    Raises:
        UsageError: the registry has a monitor's metrics already.
        MissingExtraError: prometheus_client is not installed.
    """
    client = _client()
    try:
        (client.REGISTRY if registry is None else registry).register(MonitorCollector(monitor))
    except ValueError as error:
        raise UsageError(
            "registry has the metrics of a monitor already; give each monitor a CollectorRegistry of its own "
            f"({foreign(error)})"
        ) from None


def serve(monitor: Monitor, port: int, address: str = "127.0.0.1") -> Any:  # noqa: ANN401 - a WSGI server
    """Serve the metrics of a monitor over HTTP from a thread; return the server, which `shutdown()` stops.

    Port 0 is any free one, and the server's `server_port` says which. The address "0.0.0.0" lets other machines in.

    Raises:
        UsageError: the port cannot be had.
        MissingExtraError: prometheus_client is not installed.
    """
    client = _client()
    registry = client.CollectorRegistry()
    register(monitor, registry)
    try:
        server, _ = client.start_http_server(port, addr=address, registry=registry)
    except (OSError, OverflowError) as error:
        raise UsageError(f"port {port} of {address} cannot be served ({foreign(error)}); choose another") from None
    return server


def _client() -> Any:  # noqa: ANN401 - a module
    with needs_extra("monitor", "metrics need"):
        import prometheus_client
    return prometheus_client
