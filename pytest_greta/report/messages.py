"""Every sentence shown to people, by key, in Spanish and English. Ids, keys and options are never translated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pytest_greta.report import en, es
from pytest_greta.texts import Text, languages

__all__ = ["LANGS", "Lang", "Term", "each", "known", "languages", "prose", "say", "translate", "truth"]

Lang = Literal["both", "es", "en"]
LANGS: tuple[Lang, ...] = ("both", "es", "en")

CATALOGUES: dict[str, dict[str, str]] = {"en": en.CATALOGUE, "es": es.CATALOGUE}


@dataclass(frozen=True)
class Term:
    """A value that is itself translated: ``say("indicator", lang, value=Term("word.true"))``."""

    key: str


def translate(key: str, language: str, **values: object) -> str:
    """One sentence in one language, ``es`` or ``en``. Raises ``KeyError`` for an unknown key or a missing value."""
    catalogue = CATALOGUES[language]

    def word(value: object) -> object:
        if isinstance(value, Term):
            return catalogue[value.key]
        return getattr(value, language) if isinstance(value, Text) else value

    return catalogue[key].format(**{name: word(value) for name, value in values.items()})


def say(key: str, lang: Lang, **values: object) -> str:
    """A label: one language, or ``English / Español`` (one word where both languages use the same)."""
    order = ("en", "es") if lang == "both" else (lang,)
    return " / ".join(dict.fromkeys(translate(key, language, **values) for language in order))


def prose(key: str, lang: Lang, **values: object) -> list[str]:
    """A sentence: one entry a language, Spanish first."""
    return each(lambda language: translate(key, language, **values), lang)


def each(said: Callable[..., str], lang: Lang) -> list[str]:
    """What ``said`` gives for each language asked for; once where they are the same."""
    return list(dict.fromkeys(said(language) for language in languages(lang)))


def truth(value: bool | None, lang: Lang) -> str:
    """true / false / not measured."""
    return say({True: "word.true", False: "word.false", None: "word.not_measured"}[value], lang)


def known(key: str) -> bool:
    return key in en.CATALOGUE
