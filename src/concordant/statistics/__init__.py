"""Statistics of paired runs: the hierarchical bootstrap, tests of significance, comparisons."""
