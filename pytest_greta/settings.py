"""The settings of a session, from option, environment and ini in this order; and what one probe is run with."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_greta import texts
from pytest_greta.engine.names import based
from pytest_greta.options import LANGS, OPTIONS, Option

if TYPE_CHECKING:
    from pytest_greta.artifacts import RunFolder
    from pytest_greta.backends.base import AttentionBackend
    from pytest_greta.report.messages import Lang


API_SUITE = "api"
"""The suite of probes that no case file holds: those of the fixture and of the public API."""


@dataclass(frozen=True)
class RunSettings:
    """All that ``run_probe`` must know beside the probe itself."""

    nodeid: str = ""
    where: str = ""
    """file:line of the case, the file relative to where pytest was started."""
    device: int = 0
    threads: int = 0
    """For BLAS and the attention library; 0: all cores but one (``run_plan.default_threads``)."""
    library: str | None = None
    """Path of a shared library that replaces the backend of every phase."""
    trace: str = "off"
    """off, stats, full"""
    canary: str = "auto"
    """auto, on, off"""
    artifacts: RunFolder | None = None
    """The folder of the case's suite; a probe writes only its own files in ``run/`` and ``traces/``."""
    require: frozenset[str] = frozenset()
    lang: Lang = "both"
    backends: Mapping[str, Callable[[], AttentionBackend]] = field(default_factory=dict)
    """Backends by name from the hook ``pytest_greta_backends``."""
    reproduce: str = ""
    """The command that runs this probe again."""


@dataclass(frozen=True)
class Settings:
    """``values`` by option name, every option included; ``sources`` names where those came from that were set."""

    values: Mapping[str, Any]
    sources: Mapping[str, str]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def overrides(self) -> dict[str, Any]:
        """Keys of the case files that were set from outside."""
        return {o.overrides: self.values[o.name] for o in OPTIONS if o.overrides and o.name in self.sources}

    def lines(self) -> list[str]:
        """For the head of the session: what was set, and where."""
        shown = [f"{name}={_show(self.values[name])} ({source})" for name, source in self.sources.items()]
        shown += [
            f"{name}={_show(self.values[name])}" for name in ("lang", "trace", "timeout") if name not in self.sources
        ]
        return ["greta: " + ", ".join(shown)]

    def command(self) -> str:
        """What was set, wherever that was, as options: the line that runs a probe again."""
        words = []
        for option in OPTIONS:
            if option.name in self.sources and not option.is_flag and option.name not in _OF_THE_RUN:
                words.append(f"{option.flag}={shlex.quote(_show(self.values[option.name]))}")
        return " ".join(words)


_OF_THE_RUN = ("artifacts", "devices", "lang", "require")
"""What changes nothing about one probe; the device that it ran on is named by itself."""

_SETTINGS = pytest.StashKey[Settings]()


def read(config: pytest.Config, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this session. Raises ``pytest.UsageError``: the bad value, where it came from, the good ones."""
    if environ is not None:
        return _read(config, environ)
    if _SETTINGS not in config.stash:
        config.stash[_SETTINGS] = _read(config, os.environ)
    return config.stash[_SETTINGS]


def lang(config: pytest.Config) -> Lang:
    """The language of messages, ``both`` where the setting itself is wrong."""
    found: Lang = "both"
    with contextlib.suppress(pytest.UsageError):
        found = read(config)["lang"]
    return found


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is a worker of xdist."""
    return hasattr(config, "workerinput")


def _read(config: pytest.Config, environ: Mapping[str, str]) -> Settings:
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    language = _language(config, environ)
    for option in OPTIONS:
        given = _given(config, environ, option)
        if given is None:
            values[option.name] = option.default
            continue
        raw, source = given
        values[option.name] = raw if option.is_flag else _parse(option, raw, source, language)
        sources[option.name] = source
    return Settings(values, sources)


def _language(config: pytest.Config, environ: Mapping[str, str]) -> str:
    """In which a wrong setting is said: the one asked for, where that itself is none, both."""
    (option,) = (option for option in OPTIONS if option.name == "lang")
    given = _given(config, environ, option)
    return given[0] if given is not None and given[0] in LANGS else str(option.default)


def _given(config: pytest.Config, environ: Mapping[str, str], option: Option) -> tuple[Any, str] | None:
    """The raw value and the name of its source, or None where nobody set it."""
    typed = config.getoption(option.dest, None)
    if typed is not None and typed is not False:
        return _based(config.invocation_params.dir, option, typed), option.flag
    for variable, short in option.env.items():
        value = environ.get(variable, "")
        if value:
            return short.get(value, value), variable
    ini = config.getini(option.dest)
    if option.is_flag:
        return (True, f"ini {option.dest}") if ini else None
    if not ini:
        return None
    base = config.inipath.parent if config.inipath is not None else config.rootpath
    return _based(base, option, str(ini)), f"ini {option.dest}"


def _based(folder: Path, option: Option, value: Any) -> Any:
    """A path on the command line is relative to the caller's folder, one in an ini file to that file."""
    if not option.is_path or not value.strip() or "://" in value:
        return value
    if option.name == "model":
        return based(value, folder)
    return str(folder / Path(value).expanduser())  # an absolute path stays as it is


def _parse(option: Option, raw: str, source: str, lang: str) -> Any:
    try:
        return option.parse(raw.strip())
    except ValueError as error:
        values = {"name": option.name.replace("_", " "), "value": raw, "expected": error.args[0]}
        raise pytest.UsageError(texts.say(lang, "bad_value", source=source, **values)) from None


def _show(value: Any) -> str:
    if isinstance(value, frozenset):
        value = tuple(sorted(value))
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
