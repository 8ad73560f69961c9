"""Scores as pure functions on strings, each in [0, 1], with a thin adapter for the harness."""
