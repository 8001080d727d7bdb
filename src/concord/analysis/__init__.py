"""Corruption, stress, statistics: what is done with trained runs."""
