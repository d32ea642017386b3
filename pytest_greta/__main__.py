"""``python -m pytest_greta`` is the command ``greta``."""

from __future__ import annotations

import sys

from pytest_greta.cli import main

sys.exit(main())
