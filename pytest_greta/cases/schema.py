"""The JSON Schema of case files, and its complaints in words that a user can act on."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pytest_greta.cases.model import CaseError, Where
from pytest_greta.cases.scalars import resolve
from pytest_greta.cases.yaml_ import Node

Problem = tuple[Where, str]

MOST_PROBLEMS = 10
"""Shown at once."""

_LATER = frozenset(
    (
        *("chunk", "q_len", "left_pad", "reuse", "batch", "lengths", "numerics", "repeatable", "batch_invariant"),
        *("direction", "tile_origin", "max_update", "p_dtype", "p_scale", "fp8_e4m3", "fp8_e4m3fn", "fp8_e4m3fnuz"),
    )
)
"""Names that the design fixes and this version does not have yet: an answer to them must not be a guess at a typo."""

_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "array": "a list",
    "object": "a mapping",
}


def schema_text() -> str:
    """The schema as it ships: JSON, draft-07."""
    return Path(__file__).with_name("case.schema.json").read_text(encoding="utf-8")


def validate(root: Node, path: Path) -> list[Problem]:
    """What the schema has against a file, each with its place."""
    problems: list[Problem] = []
    for error in _validator().iter_errors(root.plain()):
        problems.extend(_explained(error, root, path))
    return problems


def raise_for(problems: Iterable[Problem]) -> None:
    """One ``CaseError`` for all problems, in file order, at most ``MOST_PROBLEMS`` of them; none for none."""
    ordered = sorted(dict.fromkeys(problems), key=lambda p: (p[0].line, p[0].column, p[1]))
    if not ordered:
        return
    first, *rest = ordered[:MOST_PROBLEMS]
    lines = [first[1], *(f"{where}: {message}" for where, message in rest)]
    if len(ordered) > MOST_PROBLEMS:
        lines.append(f"and {len(ordered) - MOST_PROBLEMS} more")
    raise CaseError(first[0], "\n".join(lines))


def nearest(name: str, valid: Iterable[str]) -> str:
    """``; did you mean NAME?``, or nothing where no valid name is near."""
    by_fold = {v.casefold(): v for v in valid}
    close = difflib.get_close_matches(name.casefold(), list(by_fold), n=1, cutoff=0.6)
    return f"; did you mean {by_fold[close[0]]}?" if close else ""


def one_of(names: Iterable[str]) -> str:
    return ", ".join(names)


def shown(value: Any) -> str:
    """A YAML value in a message."""
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:37] + "...")
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    return str(value)


def label(path: Sequence[str | int], root: Node) -> str:
    """How a message names a place: ``key inject.layer (case rope_bug)``."""
    names = list(path)
    owner = ""
    if len(names) >= 2 and names[0] == "cases" and isinstance(names[1], int):
        case = at(root, names[:2])
        case_id = case.get("id")
        named = case_id is not None and isinstance(case_id.value, str) and case_id.value.isprintable()
        owner = f"case {case_id.value}" if case_id and named else f"case number {names[1] + 1}"
        names = names[2:]
    key = ""
    for name in names:
        key += f"[{name}]" if isinstance(name, int) else f".{name}" if key else name
    if key:
        return f"key {key} ({owner})" if owner else f"key {key}"
    return owner or "the file"


def at(root: Node, path: Sequence[str | int]) -> Node:
    """The node that a path leads to."""
    node = root
    for step in path:
        node = node.items()[step] if isinstance(step, int) else node[step]
    return node


@cache
def _validator() -> Any:
    import json

    from jsonschema import Draft7Validator, validators

    # JSON Schema calls 1.0 an integer and knows no infinity; YAML tells 1 from 1.0 and can write .inf.
    types = Draft7Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
            "number": lambda _, value: (
                isinstance(value, (int, float)) and not isinstance(value, bool) and _finite(value)
            ),
        }
    )
    extend: Any = validators.extend
    return extend(Draft7Validator, type_checker=types)(json.loads(schema_text()))


def _finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _explained(error: Any, root: Node, path: Path) -> Iterator[Problem]:
    steps: list[str | int] = list(error.absolute_path)
    node = at(root, steps)
    name = label(steps, root)
    rule, limit, value = error.validator, error.validator_value, error.instance
    if rule == "additionalProperties":
        valid = list(error.schema["properties"])
        for key in value:
            if key not in valid:
                yield node.key_where(path, key), f"{label([*steps, key], root)}: {_unknown(key, valid)}"
        return
    if "x-expected" in error.schema:  # where the rule alone says too little
        yield node.where(path), f"{name}: expected {error.schema['x-expected']}, got {shown(value)}"
        return
    yield node.where(path), f"{name}: {_expected(rule, limit, value)}"


def _unknown(key: str, valid: Sequence[str]) -> str:
    if key in _LATER:
        return "not in this version of pytest-greta"
    return f"unknown key{nearest(key, valid) or f'; expected one of {one_of(valid)}'}"


def _expected(rule: str, limit: Any, value: Any) -> str:  # noqa: PLR0911
    """What a rule of the schema wanted, and what it got."""
    got = f"got {shown(value)}"
    if rule == "enum":
        return _not_among([shown(v) if isinstance(v, bool) else str(v) for v in limit], value)
    if rule == "type":
        return f"expected {_type_words(limit)}, {got}{_quotes(limit, value)}"
    if rule == "required":
        missing = [key for key in limit if key not in value]
        return f"the key {one_of(missing)} is missing"
    if rule == "dependencies":
        missing = [key for present, keys in limit.items() if present in value for key in keys if key not in value]
        return f"the key {one_of(missing)} is missing; expected prefill and decode together"
    if rule == "oneOf":
        choices = [branch["required"][0] for branch in limit]
        given = [key for key in choices if key in value]
        return f"expected one of {one_of(choices)}, got {' and '.join(given) if given else 'none'}"
    if rule in ("minimum", "exclusiveMinimum", "maximum"):
        bound = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most"}[rule]
        return f"expected {bound} {limit}, {got}"
    if rule in ("minLength", "minItems", "minProperties"):
        if len(value) == 0:
            return "is empty"
        return f"expected at least {limit}, got {len(value)}"
    if rule == "maxLength":
        return f"expected at most {limit} characters, got {len(value)}"
    if rule == "uniqueItems":
        seen = [item for index, item in enumerate(value) if item in value[:index]]
        return f"the value {shown(seen[0]) if seen else ''} is given twice; keep one"
    raise AssertionError(f"the schema uses {rule}, which has no message")


def _not_among(valid: list[str], value: Any) -> str:
    if isinstance(value, str) and value in _LATER:
        return f"{value} is not in this version of pytest-greta; expected one of {one_of(valid)}"
    near = nearest(value, valid) if isinstance(value, str) else ""
    expected = valid[0] if len(valid) == 1 else f"one of {one_of(valid)}"
    return f"expected {expected}, got {shown(value)}{near}"


def _type_words(types: str | list[str]) -> str:
    return " or ".join(_TYPES[t] for t in ([types] if isinstance(types, str) else types))


def _quotes(types: str | list[str], value: Any) -> str:
    wanted = [types] if isinstance(types, str) else types
    if "string" in wanted and isinstance(value, (bool, int, float)):
        return "; quote it"
    if isinstance(value, str) and ("integer" in wanted or "number" in wanted):
        try:
            number = resolve(value)
        except ValueError:
            return ""
        return "; remove the quotes" if isinstance(number, (int, float)) and not isinstance(number, bool) else ""
    return ""
