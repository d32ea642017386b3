"""The page of the study is what its figures render to: nothing on it is typed."""

from __future__ import annotations

import orjson
import pytest

from pytest_greta.plain import from_plain
from pytest_greta.selftest.table import as_page
from pytest_greta.selftest.tally import Summary
from tests.docs.pages import ROOT

FIGURES = ROOT / "docs/concepts/selftest.json"


@pytest.mark.parametrize(("page", "language"), [("docs/concepts/selftest.md", "en"), ("docs/es/selftest.md", "es")])
def test_the_page_is_generated(page, language):
    summary = from_plain(Summary, orjson.loads(FIGURES.read_bytes()))
    assert (ROOT / page).read_text(encoding="utf-8") == as_page(summary, language), (
        f"write it anew: greta selftest --from docs/concepts/selftest.json --markdown --lang {language} > {page}"
    )
