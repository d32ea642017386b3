"""Every link leads somewhere, every table is whole, and nothing in the docs depends on files outside the project."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, links, name, prose, table

LINKED = [pytest.param(p, id=name(p)) for p in (*PAGES, ROOT / "README.md", ROOT / "CHANGELOG.md")]


def broken(page: Path) -> list[str]:
    """``page:line: target`` of each relative link whose file or heading is not there."""
    found = []
    for line, target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.is_relative_to(ROOT) or not path.exists() or (anchor and anchor not in anchors(path)):
            found.append(f"{name(page) if page.is_relative_to(ROOT) else page}:{line}: {target}")
    return found


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_somewhere(page):
    assert broken(page) == []


def test_a_broken_link_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One\n\n[a](missing.md) [b](#two) [c](#one) [d](https://example.org)\n")
    # tmp_path is outside the project, so no relative link to a file can be right there
    assert [entry.rpartition(" ")[2] for entry in broken(page)] == ["missing.md", "#two", "#one"]


def test_every_page_is_reached_from_the_index():
    seen, todo = set(), [ROOT / "docs/index.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        targets = (target.partition("#")[0] for _, target in links(page))
        todo += [(page.parent / t).resolve() for t in targets if t and not re.match(r"[a-z]+:", t)]
    assert {name(p) for p in PAGES} <= {name(p) for p in seen if p.is_relative_to(ROOT)}


@pytest.mark.parametrize("page", [pytest.param(p, id=name(p)) for p in PAGES])
def test_nothing_points_outside_the_project(page):
    lines = [f"{n}: {line}" for n, line in prose(page) if re.search(r"/work/|/tmp/|/home/|\.\./shared", line)]
    assert lines == []


@pytest.mark.parametrize("page", [pytest.param(p, id=name(p)) for p in PAGES])
def test_lines_fit_and_headings_are_unique(page):
    long = [n for n, line in prose(page) if len(line) > 140 and not line.startswith("|")]
    assert long == []
    found = anchors(page)
    assert sorted(set(found)) == sorted(found)


def test_spanish_pages_have_the_tables_of_their_english_ones():
    """The Spanish pages name the same statuses, scenarios, patterns and case keys."""
    patterns = {row["pattern"] for row in table("docs/concepts/verdicts.md", "Who: prefill / decode / aligned")}
    assert patterns == {row["patrón"] for row in table("docs/es/conceptos.md", "Veredictos", 1)}
    words = set(re.findall(r"`([A-Z_]{4,})`", (ROOT / "docs/es/conceptos.md").read_text(encoding="utf-8")))
    from pytest_greta.verdict import SCENARIOS, STATUSES

    assert {*STATUSES, *SCENARIOS} <= words
    keys = {k for row in table("docs/es/casos.md", "Claves de un caso") for k in re.findall(r"`(\w+)`", row["clave"])}
    english = {k for row in table("docs/cases.md", "Keys of a case") for k in re.findall(r"`(\w+)`", row["key"])}
    assert keys == english


def test_both_languages_give_the_same_figures():
    english = table("docs/concepts/numerics.md", "Why a fixed tolerance cannot decide it")
    spanish = table("docs/es/conceptos.md", "Por qué no alcanza una tolerancia fija")

    def numbers(rows):
        return [re.findall(r"\d+", " ".join(list(row.values())[1:])) for row in rows]

    assert numbers(english) == numbers(spanish)
    assert all(numbers(english))
