"""Human evaluation: Hebrew speakers compare models, blind, and no vote is lost."""
