"""Tests that need the extra llamacpp; conftest.py of the root deselects them where it is missing."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
