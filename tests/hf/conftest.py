"""Tests that need torch and transformers; conftest.py of the root deselects them where they are missing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

collect_ignore = (
    [] if importlib.util.find_spec("transformers") else ["test_models.py", "test_faults.py", "test_flex.py"]
)
