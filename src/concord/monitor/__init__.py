"""Watching sensors in production: which modality has gone bad, with a guaranteed rate of false alarms."""

from concord.monitor.alarm import Alarm
from concord.monitor.monitor import Monitor

__all__ = ["Alarm", "Monitor"]
