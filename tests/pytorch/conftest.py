"""Tests that need torch; conftest.py of the root deselects them where it is missing."""

from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("torch") else ["test_torch_backends.py"]
