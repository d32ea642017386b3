"""A validated tree to ``Case`` dataclasses: defaults merged in, and the checks that a schema cannot make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_greta.cases.expectations import expectations, problems_of
from pytest_greta.cases.model import Case, CaseError, Inject, Prompt, Suite, Where
from pytest_greta.cases.schema import Problem, nearest, one_of, raise_for
from pytest_greta.cases.yaml_ import Node, read_text
from pytest_greta.faults.kinds import KINDS

SETTINGS: tuple[str, ...] = (
    *("model", "backend", "dtype", "kv_dtype", "seed", "layers", "page_size", "steps", "gemm", "schedule", "contract"),
    *("context", "timeout"),
)
"""The keys that one probe has one value of: what may stand under ``matrix:``."""

_OWN_LIST = ("layers",)
"""A list here is one value, not a matrix."""

DEFAULT_MODES = ("kv_aligned",)


def suite(root: Node, path: Path) -> Suite:
    """The cases of a file that the schema has passed. Raises ``CaseError``."""
    name = str(root["suite"].value)
    builder = _Builder(path, name, root.get("defaults") or Node({}, root.line, root.column))
    builder.check_name(root, "suite", "key suite")
    cases = tuple(builder.case(node) for node in root["cases"].items())
    raise_for(builder.problems)
    return Suite(name, path, cases)


def name_problem(name: str) -> str | None:
    """Why a suite or case cannot have this name: it goes into pytest node ids, which know brackets and ``::``."""
    if not name.isprintable():
        return "holds a character that cannot be printed"
    for bad in ("[", "]", "::"):
        if bad in name:
            return f"holds {bad}, which pytest node ids use"
    if name != name.strip() or name.strip(":") != name:
        return "begins or ends with a space or a colon"
    return None


class _Builder:
    """Builds the cases of one file and keeps what is wrong with them."""

    def __init__(self, path: Path, suite_name: str, defaults: Node) -> None:
        self.path = path
        self.suite_name = suite_name
        self.defaults = defaults
        self.ids: dict[str, int] = {}
        self.problems: list[Problem] = []

    def problem(self, where: Where, message: str) -> None:
        self.problems.append((where, message))

    def check_name(self, node: Node, key: str, label: str) -> None:
        name = str(node[key].value)
        if wrong := name_problem(name):
            self.problem(node[key].where(self.path), f"{label}: {name!a} {wrong}")

    def case(self, node: Node) -> Case:
        case_id = str(node["id"].value)
        owner = f"(case {case_id if case_id.isprintable() else ascii(case_id)})"
        self.check_name(node, "id", "key id")
        if case_id in self.ids:
            text = f"key id: two cases {case_id} in suite {self.suite_name}, the first on line {self.ids[case_id]}"
            self.problem(node.key_where(self.path, "id"), text)
        self.ids.setdefault(case_id, node.keys["id"][0])
        settings, matrix, modes = self.settings(node, owner)
        prompt = self.prompt(node, owner, self.most_steps(settings, matrix))
        expect = self.expect_node(node, modes, owner)
        return Case(
            id=case_id,
            suite=self.suite_name,
            where=node.where(self.path),
            prompt=prompt,
            modes=modes,
            settings=settings,
            matrix=matrix,
            inject=self.inject(node, owner),
            expect=expectations(expect, modes) if not self.problems else {},
            marks=tuple(str(mark.value) for mark in self.either(node, "marks")),
        )

    def either(self, node: Node, key: str) -> tuple[Node, ...]:
        """The items of a key of the case, else of the defaults."""
        found = node.get(key) or self.defaults.get(key)
        return found.items() if found else ()

    def settings(self, node: Node, owner: str) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]], tuple[str, ...]]:
        """Scalar keys, matrix keys in file order, modes. What a case says of a key replaces what the defaults say."""
        single: dict[str, Any] = {}
        matrix: dict[str, tuple[Any, ...]] = {}
        for level in (self.defaults, node):
            rows = level.get("matrix")
            listed = rows.fields if rows else {}
            for key, value in level.fields.items():
                if key not in (*SETTINGS, "mode"):
                    continue
                if key in listed:
                    self.problem(level.key_where(self.path, key), f"key {key} {owner}: also under matrix; keep one")
                single.pop(key, None)
                matrix.pop(key, None)
                if key == "mode" or (isinstance(value.value, tuple) and key not in _OWN_LIST):
                    matrix[key] = _plain_items(value)
                else:
                    single[key] = _frozen(value.plain())
            for key, value in listed.items():
                single.pop(key, None)
                matrix.pop(key, None)
                matrix[key] = _plain_items(value)
        modes = matrix.pop("mode", DEFAULT_MODES)
        return single, matrix, modes

    @staticmethod
    def most_steps(settings: Mapping[str, Any], matrix: Mapping[str, tuple[Any, ...]]) -> int:
        return max(int(steps) for steps in matrix.get("steps", (settings.get("steps", 1),)))

    def prompt(self, node: Node, owner: str, steps: int) -> Prompt:
        if text := node.get("prompt"):
            return Prompt(text=str(text.value))
        if name := node.get("prompt_file"):
            return self.prompt_file(name, owner)
        if ids := node.get("token_ids"):
            self.check_count(ids, "token_ids", len(ids.items()), steps, owner)
            return Prompt(token_ids=_plain_items(ids))
        count = int(node["random_tokens"].plain())
        self.check_count(node["random_tokens"], "random_tokens", count, steps, owner)
        return Prompt(random_tokens=count)

    def check_count(self, given: Node, key: str, count: int, steps: int, owner: str) -> None:
        """The last ``steps`` tokens are decoded, after a prefill of at least one."""
        if count < steps + 1:
            text = f"key {key} {owner}: {count} tokens are too few for {steps} steps; expected at least {steps + 1}"
            self.problem(given.where(self.path), text)

    def prompt_file(self, name: Node, owner: str) -> Prompt:
        file = self.path.parent / str(name.value)
        try:
            text = read_text(file, "a prompt")
        except CaseError as error:
            place = f":{error.where.line}:{error.where.column}" if "UTF-8" in error.message else ""
            self.problem(name.where(self.path), f"key prompt_file {owner}: {file}{place}: {error.message}")
            return Prompt(text="", file=file)
        if not text:
            self.problem(name.where(self.path), f"key prompt_file {owner}: {file}: is empty")
        return Prompt(text=text, file=file)

    def expect_node(self, node: Node, modes: tuple[str, ...], owner: str) -> Node | None:
        own = node.get("expect")
        found = own or self.defaults.get("expect")
        if found is not None:
            label = f"key expect {owner if own else '(defaults)'}"
            self.problems.extend(problems_of(found, modes, self.path, label, own=own is not None))
        return found

    def inject(self, node: Node, owner: str) -> Inject | None:
        found = node.get("inject")
        if found is None:
            return None
        values = found.plain()
        if values["fault"] not in KINDS:
            text = f"unknown fault {values['fault']}; expected one of {one_of(KINDS)}{nearest(values['fault'], KINDS)}"
            self.problem(found["fault"].where(self.path), f"key inject.fault {owner}: {text}")
        return Inject(**values)


def _plain_items(node: Node) -> tuple[Any, ...]:
    return tuple(_frozen(item.plain()) for item in node.items())


def _frozen(value: Any) -> Any:
    """A list as a tuple: settings are shared between probes."""
    return tuple(value) if isinstance(value, list) else value
