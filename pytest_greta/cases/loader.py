"""Case files: which files they are, and the way from one to a ``Suite``."""

from __future__ import annotations

import re
from collections.abc import MutableMapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from pytest_greta.cases import build
from pytest_greta.cases.model import CaseError, Suite, Where
from pytest_greta.cases.schema import raise_for, validate
from pytest_greta.cases.yaml_ import parse, read_text
from pytest_greta.texts import join, text

PATTERNS: tuple[str, ...] = ("*.greta.yaml",)

_YAML = (".yaml", ".yml")
_BOTH_KEYS = (re.compile(r"^(suite|\"suite\"|'suite')\s*:", re.M), re.compile(r"^(cases|\"cases\"|'cases')\s*:", re.M))


def is_case_file(path: Path, explicit: bool, patterns: Sequence[str] = PATTERNS) -> bool:
    """By its name; a YAML file of another name only where the user names it (``explicit``) and it looks like one.

    A pattern with a slash is matched against the whole path. A case file with a mistake in it looks like one too, and
    must come to its error message; somebody else's YAML must not.
    """
    posix = path.as_posix()
    if any(fnmatch(path.name, p) or ("/" in p and fnmatch(posix, f"*/{p.removeprefix('/')}")) for p in patterns):
        return True
    if not explicit or path.suffix not in _YAML:
        return False
    try:
        found = read_text(path)
        return all(key.search(found) for key in _BOTH_KEYS) or {"suite", "cases"} <= set(parse(found, path).fields)
    except CaseError:
        return False


def load_suite(path: Path) -> Suite:
    """The suite of a case file. Raises ``CaseError``, complete: place, key, what was expected, the nearest valid name.

    ``path`` is repeated in messages and in ``Case.where`` as it is given; prompt files are found beside it.
    """
    root = parse(read_text(path), path)
    raise_for(validate(root, path))
    return build.suite(root, path)


def check_unique(suite: Suite, seen: MutableMapping[tuple[str, str], Where]) -> None:
    """Two cases of one suite with one id, in two files: ``CaseError``. ``seen`` is filled, by (suite, id)."""
    for case in suite.cases:
        first = seen.setdefault((suite.name, case.id), case.where)
        if first != case.where:
            problem = text("case.twice_in_suite", id=case.id, suite=suite.name, where=first)
            raise CaseError(case.where, join(": ", text("schema.key", key="id"), problem))
