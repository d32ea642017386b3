"""Faults to plant, so that every check can be shown to fail. Knows nothing of the checks."""
