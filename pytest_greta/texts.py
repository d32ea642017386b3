"""What the plugin, the command ``greta`` and every error say, in English and Spanish alike.

One catalogue of (English, Spanish) pairs, a module a domain in ``catalogue``. What reports say is in
``report.messages``. Names of keys, options, values and files are never translated, nor are the words of other
libraries. Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType

from pytest_greta.catalogue import (
    backends,
    baseline,
    cases,
    conformance,
    doctor,
    faults,
    llamacpp,
    models,
    plugin,
    recorder,
    remote,
    runs,
    selftest,
    transformers,
)

TEXTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        **plugin.TEXTS,
        **cases.TEXTS,
        **models.TEXTS,
        **backends.TEXTS,
        **conformance.TEXTS,
        **faults.TEXTS,
        **doctor.TEXTS,
        **selftest.TEXTS,
        **remote.TEXTS,
        **recorder.TEXTS,
        **runs.TEXTS,
        **baseline.TEXTS,
        **transformers.TEXTS,
        **llamacpp.TEXTS,
    }
)


@dataclass(frozen=True)
class Text:
    """One thing said in both languages; ``str()`` is the English one."""

    en: str
    es: str

    def __str__(self) -> str:
        return self.en

    def map(self, change: Callable[[str], str]) -> Text:
        return Text(change(self.en), change(self.es))

    def lines(self, lang: str) -> list[str]:
        """In the language asked for; ``both``: one entry a language, one in all where they say the same."""
        return list(dict.fromkeys({"en": self.en, "es": self.es}[language] for language in languages(lang)))


def languages(lang: str) -> tuple[str, ...]:
    """The languages that ``lang`` (both, es, en) asks for, in the order in which sentences are printed."""
    return ("es", "en") if lang == "both" else (lang,)


def text(key: str, /, **values: object) -> Text:
    """An entry of the catalogue, its values filled in; a value that is a ``Text`` is said in the same language."""
    english, spanish = TEXTS[key]
    return Text(
        english.format(**{k: v.en if isinstance(v, Text) else v for k, v in values.items()}),
        spanish.format(**{k: v.es if isinstance(v, Text) else v for k, v in values.items()}),
    )


def as_text(words: str | Text) -> Text:
    """Words that have no translation (a name, a command, what another library says) are the same in both languages."""
    return words if isinstance(words, Text) else Text(words, words)


def join(between: str, *parts: str | Text) -> Text:
    """As ``str.join``, in each language."""
    said = [as_text(part) for part in parts]
    return Text(between.join(part.en for part in said), between.join(part.es for part in said))


def chain(key: str, parts: Iterable[str | Text]) -> Text:
    """``a or b or c``: ``key`` is ``or`` or ``and``. At least one part."""
    first, *others = map(as_text, parts)
    return reduce(lambda left, right: text(key, left=left, right=right), others, first)


def say(lang: str, key: str, /, **values: object) -> str:
    """An entry in the language asked for; ``both``: Spanish and English on a line each."""
    return "\n".join(text(key, **values).lines(lang))


class SaidError(Exception):
    """An error that speaks both languages. ``str()`` is English; ``said`` is what is shown to people."""

    def __init__(self, said: Text) -> None:
        super().__init__(said.en)
        self.said = said

    def text(self, lang: str) -> str:
        """Everything there is to say: ``both`` gives Spanish, then English, on lines of their own."""
        return "\n".join(self.said.lines(lang))


class MendableError(SaidError):
    """What is wrong (``message``), and the command or the step that would change that (``mend``; "" for none).

    ``kind`` is one word for programs; ``message`` and ``mend`` are English, ``message_text`` and ``mend_text`` both.
    """

    def __init__(self, kind: str, message: str | Text, mend: str | Text) -> None:
        self.kind = kind
        self.message_text, self.mend_text = as_text(message), as_text(mend)
        super().__init__(join("; ", self.message_text, self.mend_text) if self.mend_text.en else self.message_text)
        self.message, self.mend = self.message_text.en, self.mend_text.en
