"""Attention libraries, reached through one protocol (``base``)."""
