"""The two catalogues say the same things, and every key that the code uses is in them."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from pytest_greta import verdict
from pytest_greta.checks.readings import HYPOTHESES
from pytest_greta.report import en, es
from pytest_greta.report.causes import PROVENANCE, likely_causes
from pytest_greta.report.messages import Term, known, prose, say, translate
from pytest_greta.trace.stages import DERIVED, STAGES

PACKAGE = Path(verdict.__file__).parent
SOURCE = "\n".join(p.read_text("utf-8") for p in PACKAGE.rglob("*.py") if p.name not in ("en.py", "es.py"))


def placeholders(text: str) -> list[str]:
    return sorted({name for _, name, _, _ in string.Formatter().parse(text) if name is not None})


def test_same_keys():
    assert en.CATALOGUE.keys() == es.CATALOGUE.keys()


@pytest.mark.parametrize("key", en.CATALOGUE)
def test_same_placeholders(key):
    assert placeholders(en.CATALOGUE[key]) == placeholders(es.CATALOGUE[key])


@pytest.mark.parametrize("catalogue", [en, es])
def test_no_key_is_written_twice(catalogue):
    """A second entry of one key would silently win."""
    keys = re.findall(r'^    "([\w.]+)":', Path(catalogue.__file__).read_text("utf-8"), re.MULTILINE)
    assert len(keys) == len(catalogue.CATALOGUE)


def test_sentences_are_really_translated():
    """Words may be alike (kernel, prompt); a sentence that is alike was forgotten."""
    alike = [k for k, v in en.CATALOGUE.items() if " " in v and v == es.CATALOGUE[k]]
    assert alike == []


def test_every_key_that_the_code_names_exists():
    used = re.findall(r'"((?:cause|who|word|summary|failure|report|analyze|artifacts)\.[a-z_0-9.]+)"', SOURCE)
    missing = sorted({key for key in used if not known(key)} - {"report.messages"})
    assert missing == []


def test_every_breach_has_its_sentence():
    used = set(re.findall(r'Breach\(\s*"([a-z_]+)"', SOURCE))
    assert {"path_missing", "no_rho"} <= used
    assert sorted(key for key in used if not known(f"breach.{key}")) == []


def test_every_scenario_has_a_sentence_and_a_recommendation():
    for name in (*verdict.SCENARIOS, verdict.INCONCLUSIVE):
        assert known(f"verdict.{name}")
        assert known(f"recommend.{name}")


def test_every_stage_that_is_judged_has_causes():
    for stage in STAGES:
        causes = likely_causes(stage)
        assert bool(causes) == (stage not in DERIVED), stage
        assert all(known(cause) for cause in causes)


def test_what_provenance_names_comes_first():
    assert likely_causes("lse", "kv_head")[0] == "cause.kv_head"
    assert set(PROVENANCE) == {*HYPOTHESES, "norm_eps"}, "what the checks may say"
    assert likely_causes("lse").count("cause.kv_head") == likely_causes("lse", "kv_head").count("cause.kv_head") == 1
    assert likely_causes("lse", "nobody knows") == likely_causes("lse")
    assert likely_causes("no_such_stage") == ()


def test_languages():
    assert say("word.expected", "both") == "expected / esperado"
    assert say("word.expected", "es") == "esperado"
    assert say("word.prompt", "both") == "prompt"
    assert prose("verdict.ALIGNED", "both") == [translate("verdict.ALIGNED", "es"), translate("verdict.ALIGNED", "en")]
    assert prose("verdict.not_run", "en", reason="{x} %s") == ["not run: {x} %s"]


def test_a_term_is_translated_where_it_stands():
    lines = prose("verdict.not_run", "both", reason=Term("word.false"))
    assert lines == ["no ejecutado: falso", "not run: false"]


def test_a_missing_value_is_an_error():
    with pytest.raises(KeyError):
        translate("verdict.not_run", "en")
