"""The reader of YAML: places, limits, and one clear message for every way to be wrong, with either parser."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from pytest_greta.cases import yaml_
from pytest_greta.cases.model import CaseError
from pytest_greta.cases.yaml_ import parse, read_text

F = Path("f.greta.yaml")
PARSERS = pytest.mark.parametrize("pure", [False, True])


def bomb(levels: int = 9, width: int = 9) -> str:
    """A billion laughs: ``width ** levels`` values in a few lines."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels + 1)]
    return "\n".join(lines)


def tower(levels: int) -> str:
    """Deep only where aliases are expanded."""
    lines = ["a0: &a0 [[[[x]]]]"] + [f"a{i}: &a{i} [[[[*a{i - 1}]]]]" for i in range(1, levels)]
    return "\n".join(lines)


REFUSED = {
    "empty": ("", "1:1: the file is empty; expected the keys suite: and cases:"),
    "only a comment": ("# nothing\n", "1:1: the file is empty"),
    "tab": ("suite: x\ncases:\n\t- id: a\n", "3:1: a tab cannot indent YAML; use spaces"),
    "tab after spaces": ("a:\n  \tb: 1\n", "2:3: a tab cannot indent YAML; use spaces"),
    "duplicate": ("a: 1\nb: 2\na: 3\n", "3:1: key a: given twice, first on line 1; keep one"),
    "duplicate, quoted": ("{a: 1,\n 'a': 2}", "2:2: key a: given twice, first on line 1"),
    "duplicate, deep": ("a:\n  - {x: 1, y: 2, x: 3}\n", "2:18: key x: given twice, first on line 2"),
    "undefined alias": ("a: *nobody\n", "1:4: alias *nobody: no anchor &nobody before it"),
    "alias in its anchor": ("a: &a [1, *a]\n", "1:11: alias *a: lies inside its own anchor"),
    "alias as key": ("a: &a b\n*a : c\n", "2:1: a key must be a plain word"),
    "list as key": ("? [a]\n: b\n", "1:3: a key must be a plain word"),
    "merge key": ("a: &a {x: 1}\nb:\n  <<: *a\n", "3:3: key <<: YAML 1.2 has no merge keys"),
    "custom tag": ("a: !secret x\n", "1:4: tag !secret: case files have no tags"),
    "python tag": (
        "a: !!python/object/apply:os.system [x]\n",
        "1:4: tag tag:yaml.org,2002:python/object/apply:os.system",
    ),
    "core tag": ("a: !!str 1\n", "1:4: tag tag:yaml.org,2002:str: case files have no tags; quote a value"),
    "two documents": ("a: 1\n---\nb: 2\n", "2:1: a second document; expected one document a file"),
    "an end, and more": ("a: 1\n...\nb: 2\n", "3:1: not valid YAML: expected '<document start>'"),
    "YAML 1.1": ("%YAML 1.1\n---\na: 1\n", "1:1: case files are YAML 1.2; remove the %YAML line"),
    "colon in a value": ("a: b: c\n", "1:5: not valid YAML: mapping values are not allowed"),
    "unclosed list": ("a: [1, 2\n", "2:1: not valid YAML: expected ',' or ']'"),
    "unclosed quote": ('a: "x\n', "not valid YAML: "),
    "bad escape": ('a: "\\d"\n', "in double quotes a backslash is written twice"),
    "reserved": ("a: @x\n", "1:4: not valid YAML: found character"),
    "surrogate": ('a: "\\ud83d"\n', "1:4: half a surrogate pair; write the character itself"),
    "beyond Unicode": ('a: "\\U00110000"\n', "f.greta.yaml:1:"),
    "NUL": ("a: \x00\n", '1:4: character U+0000 must be written as "\\x00" in double quotes'),
    "escape character": ("a: b\nc: \x1b[0m\n", '2:4: character U+001B must be written as "\\x1b"'),
    "1.1's line break": ("a: x\u2028y\n", '1:5: character U+2028 must be written as "\\u2028"'),
    "too deep": ("[" * 5000, "1:33: nested too deeply; expected at most 32 levels"),
    "too deep, by dashes": ("- " * 5000, "nested too deeply"),
    "bomb": (bomb(), "values with aliases expanded"),
    "many aliases": ("a: &a 1\nb: [" + ", ".join(["*a"] * 101) + "]\n", "more than 100 aliases"),
    "tower": (tower(9), "nested too deeply; expected at most 32 levels"),
}


@PARSERS
@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_place_and_reason(name: str, pure: bool) -> None:
    text, fragment = REFUSED[name]
    started = time.process_time()  # of this process alone: a busy machine is no hang
    with pytest.raises(CaseError) as caught:
        parse(text, F, pure=pure)
    assert time.process_time() - started < 3.0
    assert str(caught.value).startswith("f.greta.yaml:")
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


@PARSERS
def test_limits_are_not_too_tight(pure: bool) -> None:
    assert parse("[" * 32 + "]" * 32, F, pure=pure).height == 32
    assert parse(tower(7), F, pure=pure).height <= 32
    aliases = parse("a: &a [1, 2]\nb: [" + ", ".join(["*a"] * 100) + "]\n", F, pure=pure)
    assert aliases.plain()["b"] == [[1, 2]] * 100
    assert len(parse(f"token_ids: [{', '.join(map(str, range(9000)))}]", F, pure=pure)["token_ids"].items()) == 9000


@PARSERS
def test_the_bomb_would_go_off_without_the_bound(pure: bool) -> None:
    assert parse(bomb(), F, pure=pure, most_nodes=10**12).size > 9**9


@PARSERS
def test_every_key_and_value_knows_its_place(pure: bool) -> None:
    text = "suite: s\ncases:\n  - id: a\n    inject: {fault: x,\n             layer: 3}\n  - {id: b}\n"
    cases = parse(text, F, pure=pure)["cases"].items()
    inject = cases[0]["inject"]
    assert inject.keys["layer"] == (5, 14)
    assert (inject["layer"].line, inject["layer"].column) == (5, 21)
    assert (cases[0].line, cases[0].column) == (3, 5)
    assert str(inject.key_where(F, "fault")) == "f.greta.yaml:4:14"
    assert str(cases[1].where(F)) == "f.greta.yaml:6:5"


@PARSERS
def test_text_is_kept(pure: bool) -> None:
    text = "\ufeffa: \"Hi\\n\"\nb: |\n  \tone\n  dos ñ 東 👩‍🚀\nc: >-\n  x\n  y\nd: 'it''s'\r\ne: a#b # c\n"
    assert parse(text, F, pure=pure).plain() == {
        "a": "Hi\n",
        "b": "\tone\ndos ñ 東 👩‍🚀\n",
        "c": "x y",
        "d": "it's",
        "e": "a#b",
    }


@PARSERS
def test_aliases_repeat_a_value(pure: bool) -> None:
    assert parse("%YAML 1.2\n---\na: &x {b: 1}\nc: *x\n", F, pure=pure).plain() == {"a": {"b": 1}, "c": {"b": 1}}


def test_the_c_parser_is_used_where_there_is_one() -> None:
    assert issubclass(yaml_._composer(False), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    assert issubclass(yaml_._composer(True), yaml.SafeLoader)


class TestFiles:
    def test_not_utf8(self, tmp_path: Path) -> None:
        file = tmp_path / "latin.greta.yaml"
        file.write_bytes("suite: a\nx: año\n".encode("latin-1"))
        with pytest.raises(CaseError, match=r"latin\.greta\.yaml:2:5: byte 0xf1 is not UTF-8; save the file as UTF-8"):
            read_text(file)

    def test_utf16(self, tmp_path: Path) -> None:
        file = tmp_path / "wide.greta.yaml"
        file.write_bytes("suite: a\n".encode("utf-16"))
        with pytest.raises(CaseError, match=r"wide\.greta\.yaml:1:1: byte 0xff is not UTF-8"):
            read_text(file)

    def test_too_large(self, tmp_path: Path) -> None:
        file = tmp_path / "large.greta.yaml"
        file.write_bytes(b"#" * (1 << 20) + b"\n")
        with pytest.raises(CaseError, match=r"large\.greta\.yaml:1:1: 1048577 bytes are too many for a case file"):
            read_text(file)

    def test_missing_or_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(CaseError, match=r"nobody\.greta\.yaml:1:1: no such file"):
            read_text(tmp_path / "nobody.greta.yaml")
        with pytest.raises(CaseError, match="is not a file"):
            read_text(tmp_path)

    def test_line_ends_are_kept(self, tmp_path: Path) -> None:
        file = tmp_path / "p.txt"
        file.write_bytes(b"a\r\nb\n")
        assert read_text(file) == "a\r\nb\n"
