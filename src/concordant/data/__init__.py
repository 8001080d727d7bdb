"""Data: published files, the store on disk, splits, scaling, and checks."""
