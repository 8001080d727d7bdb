"""Fusions of vectors and sequences."""
