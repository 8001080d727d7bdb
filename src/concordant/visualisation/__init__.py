"""Feature-level views: features before and after calibration, projections, and explained instances."""
