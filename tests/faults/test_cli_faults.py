"""``greta faults`` lists every kind, in both languages and as JSON."""

from __future__ import annotations

import json

import pytest

from pytest_greta import cli
from pytest_greta.cases.model import Inject
from pytest_greta.faults.kinds import BY_NAME, KINDS, found_at


@pytest.mark.parametrize(("lang", "word"), [("en", "magnitude"), ("es", "magnitud")])
def test_one_line_a_kind(capsys, lang, word):
    assert cli.main(["faults", "--lang", lang]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line for line in lines if line.split(" ")[0] in KINDS]
    assert [line.split()[0] for line in listed] == list(KINDS)
    for line in listed:
        kind = BY_NAME[line.split()[0]]
        assert line.split()[1] == kind.planted
        assert f"; {word} {kind.magnitude:g}: " in line
        assert kind.seen_in in line


def test_a_terminal_gets_lines_that_fit_and_a_head(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert cli.main(["faults"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line.split(" ")[0] in KINDS] == [*KINDS, *KINDS]
    assert sum(line.startswith("kind         planted  found at") for line in lines) == 1
    assert sum(line.startswith("tipo         planta   se halla en") for line in lines) == 1


def test_both_languages_by_default(capsys):
    assert cli.main(["faults"]) == 0
    out = capsys.readouterr().out
    assert "the RoPE position is off" in out
    assert "la posición de RoPE está corrida" in out


def test_json_has_all_of_it(capsys):
    assert cli.main(["faults", "--json"]) == 0
    found = {kind["kind"]: kind for kind in json.loads(capsys.readouterr().out)}
    assert tuple(found) == KINDS
    assert found["rope_apply"]["magnitudes"] == [-1, 1, 2]
    assert found["gain"]["planted_at"]["lse"] == "kernel"
    for name, kind in found.items():
        for stage in kind["stages"] or [None]:
            assert set(found_at(Inject(name, stage=stage))) <= set(kind["found_at"])
        assert kind["what"]["en"] != kind["what"]["es"]
