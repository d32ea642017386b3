"""The catalogue of what the plugin and every error say: both languages, the same fields, no key for nothing."""

from __future__ import annotations

import re
import string
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from pytest_greta import catalogue, texts
from pytest_greta.backends.base import BackendError, BackendMissing, Unsupported
from pytest_greta.cases.model import CaseError, Where
from pytest_greta.engine.store import ModelError
from pytest_greta.faults.kinds import KINDS
from pytest_greta.texts import TEXTS, Text, as_text, chain, join, say, text

DOMAINS = tuple(import_module(f"{catalogue.__name__}.{found.name}") for found in iter_modules(catalogue.__path__))
PACKAGE = Path(texts.__file__).parent
PAIRS = Path(catalogue.__file__).parent
SOURCE = "\n".join(p.read_text("utf-8") for p in PACKAGE.rglob("*.py") if PAIRS not in p.parents)
SCHEMA = (PACKAGE / "cases" / "case.schema.json").read_text("utf-8")

BUILT = r"schema\.(string|integer|number|array|object|minimum|exclusiveMinimum|maximum)|pull\.(there|pulling|pulled"
BUILT += r"|folder|to_pull|ready|absent|wrong|built_in)"
BUILT += r"|selftest\.(kind|runs|found|stage|layer|scenario|model|alarms|suspects|rho|variant|share|below|above|rule"
BUILT += r"|faults_found|false_alarms|rule_(greta|logits|close)|odd_(missed|misplaced|not_planted|alarm|error))"
BUILT += r"|remote\.((running|ended|lost)_state|code_[0-3])"
BUILT += r"|conform\.(?!seconds|head|absent|undeclared|conformant|failed|stderr|server)\w+"
BUILT += r"|runs\.(worse|incomparable|only_before|only_after|better|same)"
BUILT += r"|doctor\.((hip|cuda|host)_compiler|without_(gguf|torch|transformers|llamacpp)|model_(ready|absent|wrong))"
BUILT += rf"|fault\.({'|'.join(KINDS)})(\.magnitude)?"
"""Keys that the code puts together: of JSON Schema's words, of what ``greta model`` says, of a study's headings, of a
remote run's states, of what a library was found to do, of what ``greta doctor`` finds, of changes between two runs,
and of each kind of fault."""


def fields(template: str) -> list[tuple[str, str | None, str | None]]:
    parts = string.Formatter().parse(template)
    return sorted({(name, spec, how or "") for _, name, spec, how in parts if name is not None})


@pytest.mark.parametrize("key", TEXTS)
def test_both_languages_have_the_same_fields(key: str) -> None:
    english, spanish = TEXTS[key]
    assert fields(english) == fields(spanish)
    assert english != spanish
    assert english.strip(" ;,")
    assert spanish.strip(" ;,")
    assert "\n" not in english + spanish


def test_no_key_is_written_twice() -> None:
    """A second entry of one key would silently win."""
    written = [
        key
        for module in DOMAINS
        for key in re.findall(r'^    "([\w.]+)": \(', Path(module.__file__).read_text("utf-8"), re.M)
    ]
    assert sorted(written) == sorted(TEXTS)


def test_every_key_that_the_code_names_exists() -> None:
    domains = "|".join(sorted({key.partition(".")[0] for key in TEXTS if "." in key}))
    used = set(re.findall(rf'"((?:{domains})\.[A-Za-z0-9_]+)"', SOURCE))
    used |= set(re.findall(r'texts\.(?:text|say)\((?:[\w.()]+, |"both", )?"(?!both\b)(\w+)"', SOURCE))
    assert {"yaml.deep", "so_far", "bad_value"} <= used
    assert sorted(used - set(TEXTS)) == []


def test_no_key_is_there_for_nothing() -> None:
    unused = [k for k in TEXTS if f'"{k}"' not in SOURCE + SCHEMA and not re.fullmatch(BUILT, k)]
    assert unused == []


def test_a_text_in_a_text_is_said_in_the_same_language() -> None:
    found = text("schema.expected", expected=text("schema.array"), got=chain("or", ("1", text("schema.null"))), hint="")
    assert found == Text("expected a list, got 1 or nothing", "se esperaba una lista, se encontró 1 o nada")
    assert join(": ", "x", text("schema.empty")) == Text("x: is empty", "x: está vacía")


def test_languages() -> None:
    assert say("both", "so_far") == "resultados hasta ahora:\nresults so far:"
    assert say("es", "so_far") == "resultados hasta ahora:"
    assert say("en", "so_far") == "results so far:"
    assert as_text("greta model pull x").lines("both") == ["greta model pull x"]


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError):
        text("model.no_file")


def test_a_case_error_has_its_place_on_each_line() -> None:
    error = CaseError(Where(Path("a.greta.yaml"), 3, 7), text("yaml.plain_key"))
    assert str(error) == "a.greta.yaml:3:7: a key must be a plain word"
    assert error.message == "a key must be a plain word"
    assert error.text("both").splitlines() == [
        "a.greta.yaml:3:7: una clave tiene que ser una palabra simple",
        "a.greta.yaml:3:7: a key must be a plain word",
    ]


@pytest.mark.parametrize("kind", [ModelError, BackendMissing])
def test_what_is_missing_says_what_to_do(kind: type[ModelError] | type[BackendMissing]) -> None:
    error = kind("model", text("model.no_file", path="x"), text("mend.path"))
    assert str(error) == "no model file at x; give the path of a .gguf file"
    assert error.text("es") == "no hay un archivo de modelo en x; indique la ruta de un archivo .gguf"
    assert (error.kind, error.message, error.mend) == ("model", "no model file at x", "give the path of a .gguf file")


def test_the_plain_words_of_a_users_library_stay_as_they_are() -> None:
    assert BackendMissing("device", "no GPU", "buy one").text("both") == "no GPU; buy one"
    assert BackendError("GRETA_INTERNAL", "kaputt").text("both") == "GRETA_INTERNAL: kaputt"
    assert Unsupported("softcap").text("both") == "GRETA_UNSUPPORTED: softcap"
