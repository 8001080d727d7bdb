"""The whole of `concordant run` and `concordant stress`: train, evaluate, compare, write."""
