"""Backends that a conftest.py or a plugin gives by the hook ``pytest_greta_backends``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest

from pytest_greta import settings as settings_
from pytest_greta import texts

if TYPE_CHECKING:
    from pytest_greta.backends.base import AttentionBackend

Backends = Mapping[str, "Callable[[], AttentionBackend]"]
_BACKENDS: pytest.StashKey[Backends] = pytest.StashKey()


def user_backends(config: pytest.Config) -> Backends:
    """From the hook ``pytest_greta_backends``; of two with one name that of the nearer conftest.py wins."""
    if _BACKENDS not in config.stash:
        merged: dict[str, Callable[[], AttentionBackend]] = {}
        for found in reversed(config.hook.pytest_greta_backends(config=config)):
            if not isinstance(found, Mapping) or not all(isinstance(k, str) and callable(v) for k, v in found.items()):
                raise pytest.UsageError(texts.say(settings_.lang(config), "bad_hook", found=found))
            merged.update(found)
        config.stash[_BACKENDS] = merged
    return config.stash[_BACKENDS]
