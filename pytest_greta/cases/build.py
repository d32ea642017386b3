"""A validated tree to ``Case`` dataclasses: defaults merged in, and the checks that a schema cannot make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_greta.cases.expectations import expectations, problems_of
from pytest_greta.cases.model import Case, CaseError, Inject, Prompt, Suite, Where
from pytest_greta.cases.schema import Problem, key_label, nearest, one_of, raise_for
from pytest_greta.cases.yaml_ import Node, read_text
from pytest_greta.faults.kinds import BY_NAME, KINDS, used_by
from pytest_greta.texts import Text, as_text, join, text

SETTINGS: tuple[str, ...] = (
    *("model", "backend", "dtype", "kv_dtype", "seed", "layers", "page_size", "steps", "gemm", "schedule", "contract"),
    *("numerics", "chunk", "q_len", "left_pad", "reuse", "batch", "lengths", "context", "timeout"),
)
"""The keys that one probe has one value of: what may stand under ``matrix:``."""

_OWN_LIST = ("layers", "batch")
"""A list here is one value, not a matrix."""

DEFAULT_MODES = ("kv_aligned",)


def suite(root: Node, path: Path) -> Suite:
    """The cases of a file that the schema has passed. Raises ``CaseError``."""
    name = str(root["suite"].value)
    builder = _Builder(path, name, root.get("defaults") or Node({}, root.line, root.column))
    builder.check_name(root, "suite")
    cases = tuple(builder.case(node) for node in root["cases"].items())
    raise_for(builder.problems)
    return Suite(name, path, cases)


def name_problem(name: str) -> Text | None:
    """Why a suite or case cannot have this name: it goes into pytest node ids, which know brackets and ``::``."""
    if not name.isprintable():
        return text("case.name_character")
    for bad in ("[", "]", "::"):
        if bad in name:
            return text("case.name_holds", part=bad)
    if name != name.strip() or name.strip(":") != name:
        return text("case.name_ends")
    return None


def inject_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, Text]]:
    """What a kind of fault cannot have, by key: what it would ignore must not look as if it were planted."""
    fault = values["fault"]
    kind = BY_NAME.get(fault)
    if kind is None:
        yield "fault", text("case.unknown_fault", fault=fault, faults=one_of(KINDS), near=nearest(fault, KINDS))
        return
    for key in ("stage", "head", "position"):
        if key in values and key not in used_by(kind, values.get("stage")):
            users = one_of(k.name for k in BY_NAME.values() if key in k.uses)
            yield key, text("case.fault_without", fault=fault, key=key, users=users)
    stage = values.get("stage")
    if "stage" in kind.uses and stage is not None and stage not in kind.stages:
        yield "stage", text("case.fault_stage", fault=fault, stage=stage, stages=one_of(kind.stages))
    if kind.choices and values.get("magnitude", kind.magnitude) not in kind.choices:
        choices, got = [f"{c:g}" for c in kind.choices], f"{values['magnitude']:g}"
        whole = text("case.fault_whole", fault=fault, got=got)
        known = text("case.fault_choice", fault=fault, choices=one_of(choices), got=got)
        yield "magnitude", whole if len(choices) == 1 else known
    elif values.get("magnitude") == 0:
        yield "magnitude", text("case.fault_of_nothing", usual=f"{kind.magnitude:g}")


class _Builder:
    """Builds the cases of one file and keeps what is wrong with them."""

    def __init__(self, path: Path, suite_name: str, defaults: Node) -> None:
        self.path = path
        self.suite_name = suite_name
        self.defaults = defaults
        self.ids: dict[str, int] = {}
        self.problems: list[Problem] = []

    def problem(self, where: Where, key: str, owner: Text | None, problem: Text) -> None:
        self.problems.append((where, join(": ", key_label(key, owner), problem)))

    def check_name(self, node: Node, key: str) -> None:
        name = str(node[key].value)
        if wrong := name_problem(name):
            self.problem(node[key].where(self.path), key, None, join(" ", ascii(name), wrong))

    def case(self, node: Node) -> Case:
        case_id = str(node["id"].value)
        owner = text("schema.case", id=case_id if case_id.isprintable() else ascii(case_id))
        self.check_name(node, "id")
        if case_id in self.ids:
            twice = text("case.twice", id=case_id, suite=self.suite_name, line=self.ids[case_id])
            self.problem(node.key_where(self.path, "id"), "id", None, twice)
        self.ids.setdefault(case_id, node.keys["id"][0])
        settings, matrix, modes = self.settings(node, owner)
        steps = self.most_steps(settings, matrix)
        prompt = self.prompt(node, owner, steps)
        self.check_lengths(node, prompt, steps, owner)
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

    def settings(self, node: Node, owner: Text) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]], tuple[str, ...]]:
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
                    self.problem(level.key_where(self.path, key), key, owner, text("case.in_matrix"))
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

    def prompt(self, node: Node, owner: Text, steps: int) -> Prompt:
        if words := node.get("prompt"):
            return Prompt(text=str(words.value))
        if name := node.get("prompt_file"):
            return self.prompt_file(name, owner)
        if ids := node.get("token_ids"):
            self.check_count(ids, "token_ids", len(ids.items()), steps, owner)
            return Prompt(token_ids=_plain_items(ids))
        count = int(node["random_tokens"].plain())
        self.check_count(node["random_tokens"], "random_tokens", count, steps, owner)
        return Prompt(random_tokens=count)

    def check_count(self, given: Node, key: str, count: int, steps: int, owner: Text) -> None:
        """The last ``steps`` tokens are decoded, after a prefill of at least one."""
        if count < steps + 1:
            few = text("case.few_tokens", count=count, steps=steps, least=steps + 1)
            self.problem(given.where(self.path), key, owner, few)

    def check_lengths(self, node: Node, prompt: Prompt, steps: int, owner: Text) -> None:
        """Every N leaves ``steps`` tokens of the prompt to be decoded; a text's length is known only to its model."""
        found = next((found for level in (node, self.defaults) for found in _either_place(level, "lengths")), None)
        if found is None:
            return
        count = prompt.known_length
        if count is None:
            if not isinstance(found.value, tuple):
                self.problem(found.where(self.path), "lengths", owner, text("case.sweep_of_text"))
            return
        for item in found.items() if isinstance(found.value, tuple) else ():
            if (length := int(item.plain())) + steps > count:
                need = {"length": length, "need": length + steps, "steps": steps}
                long = text("case.long_length", **need, count=count, most=count - steps)
                self.problem(item.where(self.path), "lengths", owner, long)

    def prompt_file(self, name: Node, owner: Text) -> Prompt:
        file = self.path.parent / str(name.value)
        try:
            words = read_text(file, "case.prompt")
        except CaseError as error:
            place = f":{error.where.line}:{error.where.column}" if "UTF-8" in error.message else ""
            self.problem(name.where(self.path), "prompt_file", owner, join(": ", f"{file}{place}", error.problem))
            return Prompt(text="", file=file)
        if not words:
            self.problem(name.where(self.path), "prompt_file", owner, text("case.empty_prompt", file=file))
        return Prompt(text=words, file=file)

    def expect_node(self, node: Node, modes: tuple[str, ...], owner: Text) -> Node | None:
        own = node.get("expect")
        found = own or self.defaults.get("expect")
        if found is not None:
            label = key_label("expect", owner if own else as_text("defaults"))
            self.problems.extend(problems_of(found, modes, self.path, label, own=own is not None))
        return found

    def inject(self, node: Node, owner: Text) -> Inject | None:
        found = node.get("inject")
        if found is None:
            return None
        values = found.plain()
        for key, problem in inject_problems(values):
            self.problem(found[key].where(self.path), f"inject.{key}", owner, problem)
        return Inject(**values)


def _either_place(level: Node, key: str) -> Iterator[Node]:
    """A key's value, as a key of its own or under ``matrix:``."""
    for place in (level, level.get("matrix")):
        if place is not None and (found := place.get(key)) is not None:
            yield found


def _plain_items(node: Node) -> tuple[Any, ...]:
    return tuple(_frozen(item.plain()) for item in node.items())


def _frozen(value: Any) -> Any:
    """A list as a tuple: settings are shared between probes."""
    return tuple(value) if isinstance(value, list) else value
