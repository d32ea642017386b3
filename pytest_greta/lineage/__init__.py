"""Traces of GRETA CORE: its old forms read, paired and judged as far as they can be."""
