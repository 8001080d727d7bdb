"""Benchmarks by topic (`sentiment`, `actions`, `events`, `emotions`, `small`) and by name (`catalogue`)."""
