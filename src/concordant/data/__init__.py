"""Benchmarks: from the files people have to scaled training, validation and test parts."""
