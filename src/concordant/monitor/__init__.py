"""Watching sensors in production: which modality has gone bad, with a guaranteed rate of false alarms."""

from concordant.errors import needs_extra

with needs_extra("experiments", "the monitor needs"):
    from concordant.monitor.alarm import Alarm
    from concordant.monitor.monitor import Monitor

__all__ = ["Alarm", "Monitor"]
