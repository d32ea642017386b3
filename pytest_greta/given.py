"""Names that were given from outside for every case: wrong ones are said once, when cases were collected, not in each.

No model and no built-in library is loaded for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from pytest_greta import settings as settings_
from pytest_greta import texts
from pytest_greta.options import OPTIONS

_WRONG = pytest.StashKey[bool]()
"""The run ends for what was given: no case of it will run."""


def check(config: pytest.Config) -> None:
    """Raises ``pytest.UsageError`` for an unknown backend or model, or a library that cannot be used."""
    settings = settings_.read(config)
    checks: dict[str, Callable[[str], texts.Text | None]] = {
        "library": _library,
        "backend": partial(_backend, config),
        "model": _model,
    }
    for name, find in checks.items():
        if name in settings.sources and (wrong := find(str(settings[name]))):
            config.stash[_WRONG] = True
            said = texts.join(": ", settings.sources[name], wrong)
            raise pytest.UsageError("\n".join(said.lines(settings["lang"])))


def _library(path: str) -> texts.Text | None:
    from pytest_greta.backends.base import BackendError, BackendMissing
    from pytest_greta.backends.native import declarations, load

    try:
        declarations()
    except BackendMissing:
        return None  # pytest-greta itself is installed only in part: each case says so
    try:
        load(Path(path))
    except BackendMissing as missing:
        return missing.said
    except BackendError:
        return None  # it is there and speaks our ABI: what it says of itself is each case's own failure
    return None


def _backend(config: pytest.Config, name: str) -> texts.Text | None:
    from pytest_greta.backends.registry import known_backends, unknown
    from pytest_greta.user_backends import user_backends

    known = known_backends(user_backends(config))
    return None if name in known else unknown(name, known)


def _model(name: str) -> texts.Text | None:
    from pytest_greta.engine.load import check_name, is_path
    from pytest_greta.engine.store import ModelError, ModelMissing

    try:
        check_name(name)
    except ModelMissing as missing:
        return missing.said if is_path(name) else None  # one not pulled yet: the case is not run, and the mend is said
    except ModelError as error:
        return error.said
    return None


def notes(config: pytest.Config) -> list[str]:
    """What was given and does not do what it seems to, a line a language."""
    settings = settings_.read(config)
    lines = []
    if settings["trace"] != "off" and settings["artifacts"] is None:
        lines += texts.text("trace_nowhere", source=settings.sources["trace"]).lines(settings["lang"])
    inside = {"library": settings["library"] is not None, "model": str(settings["model"]).startswith("llamacpp:")}
    for name, native in inside.items():
        if native and _WRONG not in config.stash and not getattr(config.option, "tx", None):
            lines += texts.text("native_inside", source=settings.sources[name]).lines(settings["lang"])
    if config.inipath is None and (moved := _moves_root(config)):
        lines += texts.text("root_moved", root=config.rootpath, option=moved).lines(settings["lang"])
    return [f"greta: {line}" for line in lines]


def nothing(config: pytest.Config) -> list[str]:
    """Where nothing at all was collected: what was given says what cases run on, and there is none."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    flags = {option.name: option.flag for option in OPTIONS}
    sources = settings_.read(config).sources
    asked = [flags[name] for name in ("model", "backend", "library") if sources.get(name) == flags[name]]
    if not asked or (reporter is not None and reporter.stats.get("deselected")):
        return []
    said = texts.text("no_cases", options=", ".join(asked)).lines(settings_.lang(config))
    return [f"greta: {line}" for line in said]


def _moves_root(config: pytest.Config) -> str:
    """``--greta-library PATH``, where pytest took that path for one of tests and so for where the project is."""
    here = config.invocation_params.dir
    words = [str(word) for word in config.invocation_params.args]
    flags = {option.flag for option in OPTIONS if option.is_path}
    for flag, value in pairwise(words):
        outside = not (here / value).resolve().is_relative_to(here.resolve())
        if flag in flags and outside and (here / value).exists():
            return f"{flag}={value}"
    return ""
