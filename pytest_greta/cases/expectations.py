"""``expect:`` from its five spellings to one ``Expect`` a mode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_greta.cases.model import MODES, Expect
from pytest_greta.cases.schema import Problem
from pytest_greta.cases.yaml_ import Node
from pytest_greta.texts import Text, join, text
from pytest_greta.verdict import ALIGNED, ATTENTION_COMPUTATION_MISMATCH, INCONCLUSIVE, PASS

DEFAULTS: Mapping[str, Expect] = {
    "as_designed": Expect(accept=(ALIGNED, ATTENTION_COMPUTATION_MISMATCH)),
    "kv_aligned": Expect(accept=(PASS,)),
}


def expectations(node: Node | None, modes: tuple[str, ...]) -> dict[str, Expect]:
    """By mode, the default where ``node`` says nothing of it. ``node`` has passed the schema and ``problems_of``."""
    stated: dict[str, Expect] = {}
    if node is not None:
        by_mode = _by_mode(node)
        stated = {mode: _one(by_mode[mode] if by_mode else node) for mode in modes if not by_mode or mode in by_mode}
    return {mode: stated.get(mode, DEFAULTS[mode]) for mode in modes}


def problems_of(node: Node, modes: tuple[str, ...], path: Path, label: Text, *, own: bool) -> list[Problem]:
    """What the schema cannot say. ``own``: the case's, not the file's defaults, which may name modes a case has not."""
    problems: list[Problem] = []
    by_mode = _by_mode(node)
    if by_mode and len(by_mode) < len(node.fields):
        stray = next(key for key in node.fields if key not in MODES)
        problems.append((node.key_where(path, stray), join(": ", label, text("expect.stray", key=stray))))
        return problems
    for mode in by_mode:
        if own and mode not in modes:
            missing = text("expect.no_mode", mode=mode, modes=", ".join(modes))
            problems.append((node.key_where(path, mode), join(": ", label, missing)))
    for one in by_mode.values() if by_mode else (node,):
        problems.extend(_reasoned(one, path, label))
        problems.extend(_no_finding(one, path, label))
    return problems


def _by_mode(node: Node) -> dict[str, Node]:
    return {key: one for key, one in node.fields.items() if key in MODES}


def _reasoned(node: Node, path: Path, label: Text) -> list[Problem]:
    """An inconclusive case proves nothing, so one that is expected must say why: anything else may not pass for it."""
    fields = isinstance(node.value, dict)
    status = node.get("status") if fields else node
    inconclusive = status is not None and any(item.value == INCONCLUSIVE for item in status.items())
    reason = node.get("reason")
    if inconclusive and reason is None:
        return [(node.where(path), join(": ", label, text("expect.reason")))]
    if reason is not None and not inconclusive:
        return [(node.key_where(path, "reason"), join("", label, ".reason: ", text("expect.stray_reason")))]
    return []


def _no_finding(node: Node, path: Path, label: Text) -> list[Problem]:
    """NONE is what is found beside an ordinary mismatch, too, so that alone it would let one pass."""
    found = node.get("finding") if isinstance(node.value, dict) else None
    alone = not any(node.get(key) for key in ("status", "scenario", "first_failure"))
    if found is not None and alone and any(item.value == "NONE" for item in found.items()):
        return [(node.key_where(path, "finding"), join("", label, ".finding: ", text("expect.none_alone")))]
    return []


def _one(node: Node) -> Expect:
    if not isinstance(node.value, dict):
        return Expect(accept=_values(node))
    failure, reason = node.get("first_failure"), node.get("reason")
    return Expect(
        status=_field(node, "status"),
        scenario=_field(node, "scenario"),
        finding=_field(node, "finding"),
        first_failure={key: _values(value) for key, value in failure.fields.items()} if failure else None,
        reason=str(reason.value) if reason else None,
    )


def _field(node: Node, key: str) -> tuple[str, ...] | None:
    found = node.get(key)
    return _values(found) if found else None


def _values(node: Node) -> tuple[Any, ...]:
    return tuple(item.value for item in node.items())
