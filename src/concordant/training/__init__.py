"""Configuration, training and paired runs."""
