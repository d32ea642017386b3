"""The options, each with its ini twin and environment variable: one table for the plugin and the ``greta`` command.

A value is parsed only when it is needed: a project that merely has the plugin installed must not break on a stray
environment variable. A parser raises ``ValueError`` with what it expected, as a ``Text``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_greta.cases.model import MODES
from pytest_greta.texts import text as said

TRACE_LEVELS = ("off", "stats", "full")
LANGS = ("both", "es", "en")
CANARIES = ("auto", "on", "off")
REPORTS = ("github", "gitlab")
REQUIRABLE = ("model", "library", "device", "extra")


def text(value: str) -> str:
    """Any text but none at all. Raises ``ValueError`` with what was expected, as every parser here."""
    if not value.strip():
        raise ValueError(said("option.name"))
    return value


def one_of(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(said("schema.one_of", names=", ".join(choices)))
        return value

    return parse


def layers(value: str) -> str | tuple[int, ...]:
    """``all``, or layers counted from 0 and separated by commas."""
    if value == "all":
        return value
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ValueError(said("option.layers"))
    return tuple(sorted({int(part) for part in parts}))


def seed(value: str) -> int:
    if not value.isdecimal() or int(value) >= 2**64:
        raise ValueError(said("option.seed"))
    return int(value)


def seconds(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1e9:
        raise ValueError(said("option.seconds"))
    return number


def require(value: str) -> frozenset[str]:
    parts = {part.strip() for part in value.split(",")}
    if not parts <= {*REQUIRABLE, "all"}:
        raise ValueError(said("option.some_of", names=",".join([*REQUIRABLE, "all"])))
    return frozenset(REQUIRABLE) if "all" in parts else frozenset(parts)


def devices(value: str) -> str | tuple[int, ...]:
    """``none``, ``auto``, or devices counted from 0 and separated by commas, in the order in which workers get them."""
    if value in ("none", "auto"):
        return value
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise ValueError(said("option.devices"))
    return tuple(map(int, parts))


def reports(value: str) -> tuple[str, ...]:
    parts = tuple(dict.fromkeys(part.strip() for part in value.split(",")))
    if not set(parts) <= set(REPORTS):
        raise ValueError(said("option.some_of", names=",".join(REPORTS)))
    return parts


@dataclass(frozen=True)
class Option:
    """``--greta-<name>``, ini ``greta_<name>``; ``env`` maps each variable to the values that it abbreviates.

    ``overrides``: a key of the case files that this replaces. ``is_path``: in an ini file it is relative to that file.
    """

    name: str
    help: str
    parse: Callable[[str], Any]
    metavar: str
    default: Any = None
    env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    overrides: str = ""
    is_path: bool = False
    is_flag: bool = False

    @property
    def flag(self) -> str:
        return "--greta-" + self.name.replace("_", "-")

    @property
    def dest(self) -> str:
        """The name in ``config.option`` and of the ini twin."""
        return "greta_" + self.name


OPTIONS: tuple[Option, ...] = (
    Option(
        "mode",
        "run only the probes of this mode: as_designed or kv_aligned",
        one_of(*MODES),
        "MODE",
        env={"GRETA_B3_66_MODE": {}},
    ),
    Option("backend", "attention library by name", text, "NAME", overrides="backend"),
    Option(
        "library",
        "attention library by the path of its .so",
        text,
        "PATH",
        overrides="library",
        is_path=True,
    ),
    Option(
        "devices",
        "devices for the workers of pytest-xdist, one each: none, auto, or a list like 0,1",
        devices,
        "LIST",
        default="auto",
    ),
    Option("model", "model by name or path", text, "NAME", overrides="model", is_path=True),
    Option(
        "layers",
        "layers to trace: all, or a list like 0,3,5",
        layers,
        "LIST",
        env={"GRETA_TRACE_LAYERS": {}},
        overrides="layers",
    ),
    Option("seed", "seed of prompts, rows and fixtures", seed, "N", env={"GRETA_SEED": {}}, overrides="seed"),
    Option(
        "trace",
        "what traces to write beside the reports: off, stats or full",
        one_of(*TRACE_LEVELS),
        "LEVEL",
        default="off",
        env={"GRETA_TRACE_B3_66": {"0": "off", "1": "stats"}},
    ),
    Option(
        "artifacts", "folder for reports, logs and traces; without it nothing is written", text, "DIR", is_path=True
    ),
    Option(
        "report",
        "reports beside the Markdown, TSV and JSONL of --greta-artifacts: github,gitlab",
        reports,
        "LIST",
        default=(),
    ),
    Option("lang", "language of the reports: both, es or en", one_of(*LANGS), "LANG", default="both"),
    Option(
        "canary",
        "plant faults that must be found: auto (once a library, dtype and model), on (with every case) or off",
        one_of(*CANARIES),
        "WHEN",
        default="auto",
    ),
    Option(
        "require",
        "fail, not skip, a case that lacks one of these: model,library,device,extra,all",
        require,
        "WHAT",
        default=frozenset(),
    ),
    Option("allow_empty", "exit with 0 although no selected case could be run", text, "", default=False, is_flag=True),
    Option(
        "baseline",
        "compare with what was accepted before: FILE.yaml of one suite, or a folder with a SUITE.baseline.yaml each",
        text,
        "PATH",
        is_path=True,
    ),
    Option(
        "update_baseline",
        "write what the probes say now to --greta-baseline, old against new",
        text,
        "",
        default=False,
        is_flag=True,
    ),
    Option("timeout", "seconds a case may take before its process is ended", seconds, "S", default=600.0),
)

FILES_INI = "greta_files"
FILES_DEFAULT = ["*.greta.yaml"]
