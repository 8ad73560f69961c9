"""Models that hebench brings: the small demo model, and baselines that are no model at all."""
