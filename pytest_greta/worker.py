"""What one process of xdist knows of its place: its share of the cores, its device, the controller's folder."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_greta import settings as settings_
from pytest_greta.environment import cores
from pytest_greta.texts import Text

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

WORKERINPUT = "greta_scratch"
"""A folder of this session on this machine: ``folders.json`` from the controller, notes from dying workers."""

DEVICE = "greta_device"
"""The worker's device, as the caller counts them."""

FOLDERS = "folders.json"

WORDS = ".words"
"""What ends the name of a dying worker's file with the last words of the code that ends it."""

WRONG = ".wrong"
"""What ends the name of a worker's file that says why the run cannot begin."""


def threads(config: pytest.Config) -> int:
    """For the attention library of one process; 0 without xdist, where the library may choose."""
    if not settings_.is_worker(config):
        return 0
    return max(1, cores() // int(config.workerinput["workercount"]))  # type: ignore[attr-defined]


def thread_environment(environ: Mapping[str, str], workers: int) -> dict[str, str]:
    """OpenMP and BLAS share the cores among the workers; what the user has set stays."""
    share = str(max(1, cores() // max(1, workers)))
    return {name: share for name in THREAD_VARIABLES if name not in environ}


def device_option(config: pytest.Config) -> str:
    """What gives the device of this worker to a run without workers; "" where it has none of its own."""
    index = getattr(config, "workerinput", {}).get(DEVICE)
    return "" if index is None else f"--greta-devices={index}"


def _scratch(config: pytest.Config) -> Path | None:
    """In a worker, the controller's folder; None in any other process, or on another machine than the controller's."""
    path = Path(getattr(config, "workerinput", {}).get(WORKERINPUT, "/nonexistent"))
    return path if path.is_dir() else None


def worker_folders(config: pytest.Config) -> dict[str, str]:
    """Folder by suite, as the controller chose them."""
    scratch = _scratch(config)
    if scratch is None or not (scratch / FOLDERS).is_file():
        return {}
    folders: dict[str, str] = json.loads((scratch / FOLDERS).read_text(encoding="utf-8"))
    return folders


def leave_note(config: pytest.Config, seconds: float) -> None:
    """Until when this worker's probe has time: a controller that finds the worker dead after that knows why."""
    scratch = _scratch(config)
    if scratch is not None:
        note = json.dumps([time.time() + seconds, seconds])
        (scratch / config.workerinput["workerid"]).write_text(note, encoding="utf-8")  # type: ignore[attr-defined]


def leave_words(config: pytest.Config, said: Text) -> None:
    """What native code said before it ended this worker, for the controller's row of the case."""
    scratch = _scratch(config)
    if scratch is not None:
        path = scratch / (config.workerinput["workerid"] + WORDS)  # type: ignore[attr-defined]
        path.write_text(json.dumps([said.en, said.es]), encoding="utf-8")


def tell_wrong(config: pytest.Config, error: str) -> bool:
    """Leaves it to the controller to end the run before it begins: only workers know every conftest.py.

    False where there is no controller on this machine to be told.
    """
    scratch = _scratch(config)
    if scratch is not None:
        (scratch / (config.workerinput["workerid"] + WRONG)).write_text(error, encoding="utf-8")  # type: ignore[attr-defined]
    return scratch is not None
