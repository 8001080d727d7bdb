"""Many seeds of one variant trained in one vectorised pass; per seed the results of single runs, but for rounding."""
