"""Fusions of feature maps."""
