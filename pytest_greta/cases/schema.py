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
from pytest_greta.texts import Text, as_text, chain, join, text

Problem = tuple[Where, Text]

MOST_PROBLEMS = 10
"""Shown at once."""


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
    ordered = sorted(dict.fromkeys(problems), key=lambda p: (p[0].line, p[0].column, p[1].en))
    if not ordered:
        return
    first, *rest = ordered[:MOST_PROBLEMS]
    lines = [first[1], *(join(": ", str(where), problem) for where, problem in rest)]
    if len(ordered) > MOST_PROBLEMS:
        lines.append(text("schema.more", count=len(ordered) - MOST_PROBLEMS))
    raise CaseError(first[0], join("\n", *lines))


def nearest(name: str, valid: Iterable[str]) -> str | Text:
    """``; did you mean NAME?``, or nothing where no valid name is near."""
    by_fold = {v.casefold(): v for v in valid}
    close = difflib.get_close_matches(name.casefold(), list(by_fold), n=1, cutoff=0.6)
    return text("schema.near", name=by_fold[close[0]]) if close else ""


def one_of(names: Iterable[str]) -> str:
    return ", ".join(names)


def shown(value: Any) -> Text:
    """A YAML value in a message."""
    if isinstance(value, str):
        return as_text(repr(value if len(value) <= 40 else value[:37] + "..."))
    if isinstance(value, bool):
        return as_text("true" if value else "false")
    if value is None:
        return text("schema.null")
    if isinstance(value, (dict, list)):
        return text("schema.object" if isinstance(value, dict) else "schema.array")
    return as_text(str(value))


def key_label(key: str, owner: Text | None) -> Text:
    """``key inject.layer (case rope_bug)``; ``owner`` is None for a key of the file itself."""
    return text("schema.key_of", key=key, owner=owner) if owner else text("schema.key", key=key)


def label(path: Sequence[str | int], root: Node) -> Text:
    """How a message names a place: ``key inject.layer (case rope_bug)``."""
    names = list(path)
    owner: Text | None = None
    if len(names) >= 2 and names[0] == "cases" and isinstance(names[1], int):
        case = at(root, names[:2])
        case_id = case.get("id")
        named = case_id is not None and isinstance(case_id.value, str) and case_id.value.isprintable()
        number = text("schema.case_number", number=names[1] + 1)
        owner = text("schema.case", id=case_id.value) if case_id and named else number
        names = names[2:]
    key = ""
    for name in names:
        key += f"[{name}]" if isinstance(name, int) else f".{name}" if key else name
    if key:
        return key_label(key, owner)
    return owner or text("schema.file")


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
                moved = steps == ["defaults"] and key in _case_keys()
                said = text("schema.of_a_case") if moved else _unknown(key, valid)
                yield node.key_where(path, key), join(": ", label([*steps, key], root), said)
        return
    defaults = root.get("defaults")
    if rule == "oneOf" and not _given(limit, value) and defaults is not None and _given(limit, defaults.plain()):
        return  # said already, where it stands
    if "x-expected" in error.schema:  # where the rule alone says too little
        yield node.where(path), join(": ", name, _wanted(text(error.schema["x-expected"]), value))
        return
    yield node.where(path), join(": ", name, _expected(rule, limit, value))


@cache
def _case_keys() -> frozenset[str]:
    import json

    return frozenset(json.loads(schema_text())["definitions"]["case"]["properties"])


def _given(branches: Any, value: Any) -> list[str]:
    """Which of the keys of which one is to be there are there."""
    choices = [branch["required"][0] for branch in branches]
    return [key for key in choices if isinstance(value, dict) and key in value]


def _unknown(key: str, valid: Sequence[str]) -> Text:
    if near := nearest(key, valid):
        return text("schema.unknown_key", near=near)
    return text("schema.unknown_key_of", names=one_of(valid))


def _wanted(expected: Text, value: Any, hint: str | Text = "") -> Text:
    return text("schema.expected", expected=expected, got=shown(value), hint=hint)


def _expected(rule: str, limit: Any, value: Any) -> Text:  # noqa: PLR0911
    """What a rule of the schema wanted, and what it got."""
    if rule == "enum":
        return _not_among([shown(v).en if isinstance(v, bool) else str(v) for v in limit], value)
    if rule == "type":
        return _wanted(_type_words(limit), value, _quotes(limit, value))
    if rule == "required":
        missing = [key for key in limit if key not in value]
        return text("schema.missing", keys=one_of(missing))
    if rule == "dependencies":
        missing = [key for present, keys in limit.items() if present in value for key in keys if key not in value]
        return text("schema.missing_phase", keys=one_of(missing))
    if rule == "oneOf":
        choices = [branch["required"][0] for branch in limit]
        given = _given(limit, value)
        found = chain("and", given) if given else text("schema.none")
        return text("schema.key_among", names=one_of(choices), given=found)
    if rule in ("minimum", "exclusiveMinimum", "maximum"):
        return text(f"schema.{rule}", limit=limit, got=shown(value))
    if rule in ("minLength", "minItems", "minProperties"):
        if len(value) == 0:
            return text("schema.empty")
        return text("schema.minimum", limit=limit, got=len(value))
    if rule == "maxLength":
        return text("schema.maxLength", limit=limit, got=len(value))
    if rule == "uniqueItems":
        seen = [item for index, item in enumerate(value) if item in value[:index]]
        return text("schema.twice", value=shown(seen[0]) if seen else "")
    raise AssertionError(f"the schema uses {rule}, which has no message")


def _not_among(valid: list[str], value: Any) -> Text:
    near = nearest(value, valid) if isinstance(value, str) else ""
    expected = as_text(valid[0]) if len(valid) == 1 else text("schema.one_of", names=one_of(valid))
    return _wanted(expected, value, near)


def _type_words(types: str | list[str]) -> Text:
    return chain("or", [text(f"schema.{name}") for name in ([types] if isinstance(types, str) else types)])


def _quotes(types: str | list[str], value: Any) -> str | Text:
    wanted = [types] if isinstance(types, str) else types
    if "string" in wanted and isinstance(value, (bool, int, float)):
        return text("schema.quote")
    if isinstance(value, str) and ("integer" in wanted or "number" in wanted):
        try:
            number = resolve(value)
        except ValueError:
            return ""
        return text("schema.unquote") if isinstance(number, (int, float)) and not isinstance(number, bool) else ""
    return ""
