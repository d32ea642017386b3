"""YAML text to a tree of nodes that know their place: strict, bounded, YAML 1.2 meaning.

The parser is PyYAML's (libyaml's where it was built in); the composer is ours, over parser events, so that depth,
aliases and size are bounded while reading, and both parsers give the same tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pytest_greta.cases.model import CaseError, Where
from pytest_greta.cases.scalars import Scalar, resolve
from pytest_greta.texts import Text
from pytest_greta.texts import text as say

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_ALIASES = 100
MAX_NODES = 100_000
"""Counted with every alias expanded: what a reader of the tree would walk."""

SECOND_LOOK = 1 << 16
"""Characters. What libyaml refuses, PyYAML's own slow parser reads again: libyaml refuses a little more than YAML does
(a block that begins with a tab), and its messages say a little less."""

# YAML's c-printable, less the three characters that are line breaks in YAML 1.1 (and in PyYAML) but not in 1.2.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class Node:
    """A value with its place, line and column from 1. An aliased node has the place of its anchor.

    ``value`` is a scalar, a tuple of nodes or a dict of nodes; ``keys`` are the places of a mapping's keys. ``size``
    and ``height`` count nodes and levels with every alias expanded.
    """

    value: Scalar | tuple[Node, ...] | dict[str, Node]
    line: int
    column: int
    size: int = 1
    height: int = 1
    keys: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def where(self, path: Path) -> Where:
        return Where(path, self.line, self.column)

    def key_where(self, path: Path, key: str) -> Where:
        """The place of a key, or of the mapping itself where it has no such key."""
        return Where(path, *self.keys.get(key, (self.line, self.column)))

    @property
    def fields(self) -> dict[str, Node]:
        """A mapping's nodes by key; none of any other node."""
        return self.value if isinstance(self.value, dict) else {}

    def get(self, key: str) -> Node | None:
        return self.fields.get(key)

    def __getitem__(self, key: str) -> Node:
        return self.fields[key]

    def items(self) -> tuple[Node, ...]:
        """A sequence's nodes; any other node is a sequence of one."""
        return self.value if isinstance(self.value, tuple) else (self,)

    def plain(self) -> Any:
        """The same as None, bool, int, float, str, list and dict."""
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return self.value


def read_text(path: Path, what: str = "case.file", most: int = MAX_BYTES) -> str:
    """The text of a file of at most ``most`` bytes, UTF-8, its line ends kept. Raises ``CaseError``.

    ``what``: the key of what the file is, for the message.
    """
    start = Where(path, 1)
    try:
        if not path.is_file():
            raise CaseError(start, say("case.not_a_file" if path.exists() else "case.no_file"))
        size = path.stat().st_size
        if size > most:
            raise CaseError(start, say("case.too_large", size=size, what=say(what), most=most))
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CaseError(start, say("case.unreadable", error=reason)) from None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise CaseError(Where(path, line, column), say("case.not_utf8", byte=data[error.start])) from None


def parse(text: str, path: Path, *, pure: bool = False, most_nodes: int = MAX_NODES) -> Node:
    """The one document of ``text``. ``path`` is for the messages; ``pure`` takes PyYAML's own parser over libyaml's.

    Raises ``CaseError`` for whatever is not one strict YAML document.
    """
    import yaml

    text = text.removeprefix("\ufeff")
    if found := _FORBIDDEN.search(text):
        at = _where(text, found.start(), path)
        escape = f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else f"\\u{ord(found[0]):04x}"
        raise CaseError(at, say("yaml.character", code=ord(found[0]), escape=escape))
    composer = None
    try:
        composer = _composer(pure)(text)
        root: Node = composer.document(path, most_nodes)
        return root
    except yaml.YAMLError as error:
        if not pure and len(text) <= SECOND_LOOK:
            return parse(text, path, pure=True, most_nodes=most_nodes)
        raise _explained(error, text, path) from None
    except (ValueError, OverflowError) as error:  # chr() of an escape beyond Unicode, in the pure parser
        raise CaseError(Where(path, 1), say("yaml.invalid", problem=error, hint="")) from None
    finally:
        if composer is not None:
            composer.dispose()


def _where(text: str, index: int, path: Path) -> Where:
    lines = _LINE_END.split(text[:index])
    return Where(path, len(lines), len(lines[-1]) + 1)


def _explained(error: Exception, text: str, path: Path) -> CaseError:
    """PyYAML's error in one line, with what to do about the usual ones."""
    problem = str(getattr(error, "problem", None) or error).splitlines()[0]
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return CaseError(Where(path, 1), say("yaml.invalid", problem=problem, hint=""))
    lines = _LINE_END.split(text)
    line = lines[mark.line] if mark.line < len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    hint: str | Text = ""
    if "\t" in indent:
        return CaseError(Where(path, mark.line + 1, line.index("\t") + 1), say("yaml.tab_indent"))
    if line[mark.column : mark.column + 1] == "\t":
        return CaseError(Where(path, mark.line + 1, mark.column + 1), say("yaml.tab_here"))
    if "mapping values are not allowed" in problem:
        hint = say("yaml.hint_colon")
    elif "escape" in problem:
        hint = say("yaml.hint_escape")
    return CaseError(Where(path, mark.line + 1, mark.column + 1), say("yaml.invalid", problem=problem, hint=hint))


def _above(nodes: Iterable[Node]) -> int:
    return 1 + max((node.height for node in nodes), default=0)


@cache
def _composer(pure: bool) -> Any:
    """The composer class: a subclass of the C loader where PyYAML has one."""
    import yaml

    base: Any = yaml.SafeLoader if pure or not hasattr(yaml, "CSafeLoader") else yaml.CSafeLoader

    class Composer(base):  # type: ignore[misc]
        """Events to nodes. One instance reads one text."""

        def document(self, path: Path, most_nodes: int) -> Node:
            self.path, self.most_nodes = path, most_nodes
            self.anchors: dict[str, Node | None] = {}
            self.aliases = 0
            self.get_event()  # stream start
            if self.check_event(yaml.StreamEndEvent):
                raise CaseError(Where(path, 1), say("yaml.empty"))
            start = self.get_event()
            if start.version not in (None, (1, 2)):
                raise self.error(start, say("yaml.version"))
            node = self.node(self.get_event(), 1)
            self.get_event()  # document end
            if not self.check_event(yaml.StreamEndEvent):
                raise self.error(self.get_event(), say("yaml.second"))
            return node

        def error(self, event: Any, problem: Text) -> CaseError:
            return CaseError(Where(self.path, event.start_mark.line + 1, event.start_mark.column + 1), problem)

        def until(self, end: type) -> Iterator[Any]:
            while not self.check_event(end):
                yield self.get_event()
            self.get_event()

        def node(self, event: Any, depth: int) -> Node:
            if isinstance(event, yaml.AliasEvent):
                return self.alias(event, depth)
            if event.tag is not None:
                raise self.error(event, say("yaml.tag", tag=event.tag))
            if depth > MAX_DEPTH:
                raise self.error(event, say("yaml.deep", most=MAX_DEPTH))
            if event.anchor is not None:
                self.anchors[event.anchor] = None  # an alias to it from inside would have no end
            place = event.start_mark.line + 1, event.start_mark.column + 1
            if isinstance(event, yaml.ScalarEvent):
                node = Node(self.scalar(event), *place)
            elif isinstance(event, yaml.SequenceStartEvent):
                node = self.sequence(place, depth)
            else:
                node = self.mapping(place, depth)
            if event.anchor is not None:
                self.anchors[event.anchor] = node
            return node

        def scalar(self, event: Any) -> Scalar:
            text: str = event.value
            if _SURROGATE.search(text):
                raise self.error(event, say("yaml.surrogate"))
            if not event.implicit[0]:
                return text
            try:
                return resolve(text)
            except ValueError as error:
                raise self.error(event, error.args[0]) from None

        def sequence(self, place: tuple[int, int], depth: int) -> Node:
            nodes: list[Node] = []
            size = 1
            for item in self.until(yaml.SequenceEndEvent):
                nodes.append(self.node(item, depth + 1))
                size = self.bounded(item, size + nodes[-1].size)
            return Node(tuple(nodes), *place, size, _above(nodes))

        def mapping(self, place: tuple[int, int], depth: int) -> Node:
            nodes: dict[str, Node] = {}
            keys: dict[str, tuple[int, int]] = {}
            size = 1
            for item in self.until(yaml.MappingEndEvent):
                key = self.key(item)
                if key in nodes:
                    raise self.error(item, say("yaml.twice", key=key, line=keys[key][0]))
                keys[key] = item.start_mark.line + 1, item.start_mark.column + 1
                nodes[key] = self.node(self.get_event(), depth + 1)
                size = self.bounded(item, size + 1 + nodes[key].size)
            return Node(nodes, *place, size, _above(nodes.values()), keys)

        def key(self, event: Any) -> str:
            if not isinstance(event, yaml.ScalarEvent) or event.anchor is not None or event.tag is not None:
                raise self.error(event, say("yaml.plain_key"))
            if event.value == "<<" and event.implicit[0]:
                raise self.error(event, say("yaml.merge"))
            self.scalar(event)
            return str(event.value)

        def alias(self, event: Any, depth: int) -> Node:
            self.aliases += 1
            if self.aliases > MAX_ALIASES:
                raise self.error(event, say("yaml.aliases", most=MAX_ALIASES))
            if event.anchor not in self.anchors:
                raise self.error(event, say("yaml.no_anchor", name=event.anchor))
            node = self.anchors[event.anchor]
            if node is None:
                raise self.error(event, say("yaml.inside", name=event.anchor))
            if depth + node.height - 1 > MAX_DEPTH:
                raise self.error(event, say("yaml.deep", most=MAX_DEPTH))
            return node

        def bounded(self, event: Any, size: int) -> int:
            if size > self.most_nodes:
                raise self.error(event, say("yaml.nodes", most=self.most_nodes))
            return size

    return Composer
