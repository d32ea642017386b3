"""What users of pytest-greta may implement in a conftest.py or a plugin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_greta.backends.base import AttentionBackend


@pytest.hookspec(firstresult=False)
def pytest_greta_backends(config: pytest.Config) -> Mapping[str, Callable[[], AttentionBackend]]:  # noqa: ARG001
    """Attention libraries by the name that ``backend:`` and ``--greta-backend`` may use, each with a function.

    The function opens the library. It is called in the process that runs the probe, when a case first needs it, and
    raises ``pytest_greta.backends.base.BackendMissing`` where the library is absent: that case is "not run".

    Mark the implementation as optional, or pytest ends with an internal error when the plugin is switched off
    (``-p no:greta``)::

        @pytest.hookimpl(optionalhook=True)
        def pytest_greta_backends(config):
            return {"mine": lambda: MyBackend()}
    """
    raise AssertionError("a hook specification is never called")
