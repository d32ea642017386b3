"""The machine and the versions that a result was made with."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pytest_greta.masks import present


@cache
def describe() -> dict[str, Any]:
    """Plain values for reports: versions, processor, cores, and the device masks that are set."""
    masks = {name: value for name, value in present(os.environ).items() if value is not None}
    packages = {}
    for name in ("pytest-greta", "pytest", "numpy", "ml_dtypes", "cffi"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "?"
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores(),
        **packages,
        **masks,
    }


def cores() -> int:
    """Those that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0))


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "?")
    except OSError:
        return platform.processor() or "?"
