"""What was found on a machine: plain values, no judgement and no words but those of other programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pytest_greta.texts import Text


@dataclass(frozen=True)
class Program:
    """A compiler. ``path`` is "" where there is none, ``version`` "?" where it does not tell."""

    name: str
    path: str = ""
    version: str = ""


@dataclass(frozen=True)
class Answer:
    """What an attention library said of itself, in a process of its own.

    ``devices``: how many it sees under the masks of the environment; None where it cannot tell. ``opens``: it opened a
    small session; otherwise ``reason`` says why not. ``broken``: it crashed, hung, ended its process or cannot be
    loaded, which no library should; one that finds no device is not broken.
    """

    version: str = ""
    kind: str = ""
    isa: str = ""
    devices: int | None = None
    opens: bool = False
    broken: bool = False
    reason: Text | None = None


@dataclass(frozen=True)
class Library:
    """An attention library: a built-in one by its backend's name, or the user's. ``answer`` is None where it is not
    built. ``twin``: its faulty twin is installed beside it."""

    name: str
    path: str
    twin: bool = False
    answer: Answer | None = None

    @property
    def works(self) -> bool:
        return self.answer is not None and self.answer.opens


@dataclass(frozen=True)
class Driver:
    """A GPU driver, by the files that it makes. ``cards``: architectures or names of the GPUs that it lists.

    ``loaded`` without ``usable``: this user may not open its device. ``version`` is "" where it does not tell.
    """

    vendor: str
    loaded: bool
    usable: bool = False
    version: str = ""
    cards: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """``state``: ready, absent, wrong."""

    name: str
    state: str


@dataclass(frozen=True)
class Facts:
    """``masks``: the variables that hide devices, None where one is not set. ``packages``: versions by package, None
    where one is not installed, by extra. ``rocm``: "" where there is none."""

    greta: str
    python: str
    system: str
    processor: str
    cores: int
    compilers: tuple[Program, ...]
    libraries: tuple[Library, ...]
    drivers: tuple[Driver, ...]
    rocm: str
    masks: Mapping[str, str | None]
    packages: Mapping[str, Mapping[str, str | None]]
    cache: str
    models: tuple[Model, ...] = field(default=())

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    def library(self, name: str) -> Library | None:
        return next((library for library in self.libraries if library.name == name), None)
