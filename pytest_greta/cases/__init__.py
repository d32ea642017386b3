"""Probe cases: from a YAML file to ``Case`` dataclasses."""
