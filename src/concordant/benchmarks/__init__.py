"""Benchmarks by name: where their files are, how they are split, and the way to scaled parts."""
