"""pytest-greta: prefill/decode drift as test assertions.

Importing this imports nothing else: names are loaded when they are first used, so that the pytest plugin costs no time
in projects that merely have it installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_greta.api import Model, Run, load_model, probe
    from pytest_greta.backends.base import Numerics
    from pytest_greta.backends.function import function_backend
    from pytest_greta.recorder import Recorder
    from pytest_greta.verdict import FirstFailure, Verdict

__all__ = [
    "FirstFailure",
    "Model",
    "Numerics",
    "Recorder",
    "Run",
    "Verdict",
    "__version__",
    "function_backend",
    "load_model",
    "probe",
]

_HOME = {
    "Model": "api",
    "Run": "api",
    "load_model": "api",
    "probe": "api",
    "Numerics": "backends.base",
    "function_backend": "backends.function",
    "Recorder": "recorder",
    "Verdict": "verdict",
    "FirstFailure": "verdict",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("pytest-greta")
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"pytest_greta.{_HOME[name]}"), name)
    raise AttributeError(f"module 'pytest_greta' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
