"""A baseline's file: YAML that a program writes and people review, one fact a line. Read strictly, with its lines."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_greta.artifacts import explained, write_atomic
from pytest_greta.baseline.entry import TEXTS, Entry
from pytest_greta.cases.model import CaseError
from pytest_greta.cases.scalars import resolve
from pytest_greta.cases.schema import nearest, shown
from pytest_greta.cases.yaml_ import Node, parse, read_text
from pytest_greta.texts import Text, text
from pytest_greta.verdict import FINDINGS, SCENARIOS, STATUSES

VERSION = 1
OPTION = "--greta-baseline"
MAX_BYTES = 1 << 26
MAX_NODES = 4_000_000
"""A suite of 10,000 probes takes 5 MB and 500,000 nodes."""

HEAD = """\
# A baseline of pytest-greta: what each probe of a suite said when it was accepted.
# Written by --greta-update-baseline; review a change of it as you review code.
"""

_TOP = ("schema", "suite", "probes")
_LISTS = ("seeds",)
_MAPS = ("schedule", "rho", "hashes")
_REQUIRED = ("probe", "verdict")
_KEYS = ("probe", "verdict", *(k for k in TEXTS if k not in ("probe", "status", "scenario")), *_LISTS, *_MAPS)

_PLAIN = re.compile(r"[A-Za-z0-9_/][\w ./=+()~,-]*(?:::?[\w./=+()~,-]+)*", re.ASCII)
"""What YAML surely reads as it stands, a number or a word of its own apart."""


def read(path: Path) -> tuple[str, dict[str, Entry]]:
    """The suite and its entries by probe. Raises ``CaseError`` (file:line:column, what was expected)."""
    root = parse(read_text(path, "baseline.file", most=MAX_BYTES), path, most_nodes=MAX_NODES)
    _mapping(root, path, _TOP, _TOP)
    schema = root["schema"]
    if schema.value != VERSION or isinstance(schema.value, bool):
        raise CaseError(schema.where(path), text("baseline.version", found=shown(schema.plain()), known=VERSION))
    suite = _text(root["suite"], path)
    entries: dict[str, Entry] = {}
    lines: dict[str, int] = {}
    nodes = root["probes"]
    if not isinstance(nodes.value, tuple):
        raise _wrong(nodes, path, text("schema.array"))
    for node in nodes.value:
        entry = _entry(node, path)
        if entry.probe in entries:
            said = text("baseline.twice", probe=entry.probe, line=lines[entry.probe])
            raise CaseError(node["probe"].where(path), said)
        entries[entry.probe], lines[entry.probe] = entry, node.line
    return suite, entries


def write(path: Path, suite: str, entries: Iterable[Entry]) -> None:
    """Replaces the file, atomically; its folder is made. Raises ``ArtifactError``."""
    with explained(path.parent, OPTION):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, dump(suite, entries).encode("utf-8", "backslashreplace"), OPTION)


def dump(suite: str, entries: Iterable[Entry]) -> str:
    """The whole file, entries by probe."""
    lines = [f"{HEAD}schema: {VERSION}", f"suite: {_spelled(suite)}", "probes:"]
    for entry in sorted(entries, key=lambda e: e.probe):
        lines += [f"  {'- ' if i == 0 else '  '}{line}" for i, line in enumerate(_lines(entry))]
    if len(lines) == 3:
        lines[-1] += " []"
    return "\n".join(lines) + "\n"


def plain(entry: Entry) -> dict[str, Any]:
    """As in the file; ``of_plain`` is the inverse."""
    found: dict[str, Any] = {"probe": entry.probe, "verdict": f"{entry.status} {entry.scenario}".strip()}
    for name in _KEYS[2:]:
        value = getattr(entry, name)
        if value and value != "NONE":
            found[name] = dict(value) if isinstance(value, Mapping) else value
    return found


def of_plain(value: Mapping[str, Any]) -> Entry:
    status, _, scenario = value["verdict"].partition(" ")
    known = {name: value[name] for name in _KEYS[1:] if name in value and name != "verdict"}
    known |= {name: tuple(known[name]) for name in _LISTS if name in known}
    if "hashes" in known:
        known["hashes"] = {stage: tuple(hashes) for stage, hashes in known["hashes"].items()}
    return Entry(probe=value["probe"], status=status, scenario=scenario, **known)


def _lines(entry: Entry) -> Iterable[str]:
    for name, value in plain(entry).items():
        if isinstance(value, dict):
            yield f"{name}:"
            for key, inner in value.items():
                yield f"  {key}: {_spelled(inner)}"
        else:
            yield f"{name}: {_spelled(value)}"


def _spelled(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_spelled, value))}]"
    if isinstance(value, float):
        return f"{value:.3g}"
    if not isinstance(value, str):
        return str(value)
    return value if _PLAIN.fullmatch(value) and _reads_back(value) else f'"{"".join(map(_escaped, value))}"'


def _escaped(char: str) -> str:
    if char.isprintable():
        return f"\\{char}" if char in '"\\' else char
    return f"\\u{ord(char):04x}" if ord(char) < 1 << 16 else f"\\U{ord(char):08x}"


def _reads_back(value: str) -> bool:
    try:
        return resolve(value) == value and value == value.strip()
    except ValueError:
        return False


def _entry(node: Node, path: Path) -> Entry:
    _mapping(node, path, _KEYS, _REQUIRED)
    found: dict[str, Any] = {}
    for key, inner in node.fields.items():
        found[key] = _READERS.get(key, _text)(inner, path)
    return of_plain(found)


def _mapping(node: Node, path: Path, valid: tuple[str, ...], required: tuple[str, ...]) -> None:
    if not isinstance(node.value, dict):
        raise _wrong(node, path, text("schema.object"))
    for key in node.fields:
        if key not in valid:
            near = nearest(key, valid)
            said = text("schema.unknown_key", near=near) if near else _one_of_keys(valid)
            raise CaseError(node.key_where(path, key), text("baseline.at", key=shown(key), problem=said))
    if missing := [key for key in required if key not in node.fields]:
        raise CaseError(node.where(path), text("schema.missing", keys=", ".join(missing)))


def _one_of_keys(valid: tuple[str, ...]) -> Text:
    return text("schema.unknown_key_of", names=", ".join(valid))


def _wrong(node: Node, path: Path, expected: str | Text) -> CaseError:
    return CaseError(node.where(path), text("schema.expected", expected=expected, got=shown(node.plain()), hint=""))


def _text(node: Node, path: Path) -> str:
    if not isinstance(node.value, str) or not node.value:
        raise _wrong(node, path, text("schema.string"))
    return node.value


def _verdict(node: Node, path: Path) -> str:
    status, _, scenario = _text(node, path).partition(" ")
    if status not in STATUSES or (scenario and scenario not in SCENARIOS):
        raise _wrong(node, path, text("baseline.a_verdict", statuses=", ".join(STATUSES)))
    return f"{status} {scenario}".strip()


def _finding(node: Node, path: Path) -> str:
    if node.value not in FINDINGS:
        raise _wrong(node, path, text("schema.one_of", names=", ".join(FINDINGS)))
    return str(node.value)


def _rho(node: Node, path: Path) -> float:
    value = node.value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise _wrong(node, path, text("baseline.a_rho"))
    return float(value)


def _seed(node: Node, path: Path) -> int:
    if isinstance(node.value, bool) or not isinstance(node.value, int) or node.value < 0:
        raise _wrong(node, path, text("schema.integer"))
    return node.value


def _list(of: Callable[[Node, Path], Any]) -> Callable[[Node, Path], tuple[Any, ...]]:
    def read_list(node: Node, path: Path) -> tuple[Any, ...]:
        if not isinstance(node.value, tuple):
            raise _wrong(node, path, text("schema.array"))
        return tuple(of(item, path) for item in node.value)

    return read_list


def _map(of: Callable[[Node, Path], Any]) -> Callable[[Node, Path], dict[str, Any]]:
    def read_map(node: Node, path: Path) -> dict[str, Any]:
        if not isinstance(node.value, dict):
            raise _wrong(node, path, text("schema.object"))
        return {key: of(inner, path) for key, inner in node.fields.items()}

    return read_map


_READERS: dict[str, Callable[[Node, Path], Any]] = {
    "verdict": _verdict,
    "finding": _finding,
    "seeds": _list(_seed),
    "schedule": _map(_text),
    "rho": _map(_rho),
    "hashes": _map(_list(_text)),
}
