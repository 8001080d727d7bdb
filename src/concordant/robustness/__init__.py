"""Robustness: removal and synthetic corruption of modalities, scores under each, and detection of what is wrong."""
