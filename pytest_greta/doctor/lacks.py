"""What the facts lack, in words: what is not there, what it costs, what would change that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_greta import masks
from pytest_greta.doctor.facts import Driver, Facts, Library
from pytest_greta.doctor.gather import BESIDE_CLANG
from pytest_greta.texts import Text, as_text, text

NEEDED = "cpu"
"""The library that cases run on where they name none."""

OPTIONS = {"hip-emulated": "GRETA_HIP_EMULATED", "hip": "GRETA_HIP", "cuda": "GRETA_CUDA"}
"""Of CMake: what builds each further library."""

COMPILERS = {"hip": ("amdclang++", "clang++-19"), "cuda": ("nvcc",)}
"""Any of these builds the library."""


@dataclass(frozen=True)
class Lack:
    """``serious``: cases cannot run, or something that is there is broken; all else is merely absent."""

    what: Text
    mend: Text
    serious: bool = False


def lacks(facts: Facts) -> list[Lack]:
    """The serious ones first."""
    found = [*_libraries(facts), *_devices(facts), *_masks(facts), *_extras(facts), *_models(facts)]
    return sorted(found, key=lambda lack: not lack.serious)


def _libraries(facts: Facts) -> Iterator[Lack]:
    for library in facts.libraries:
        if library.answer is None:
            yield _not_built(facts, library)
        elif library.answer.broken or (library.name == NEEDED and not library.works):
            what = text("doctor.fails", library=library.name, reason=library.answer.reason or as_text("?"))
            yield Lack(what, text("doctor.fails_mend", path=library.path), True)


def _not_built(facts: Facts, library: Library) -> Lack:
    name = library.name
    if name not in OPTIONS:
        return Lack(text("doctor.not_built", library=name), text("native.install"), True)
    wanted = COMPILERS.get(name, ("g++",))
    parts = [each.name for each in facts.compilers if each.name in BESIDE_CLANG and not each.path and name == "hip"]
    if any(compiler.path for compiler in facts.compilers if compiler.name in wanted):
        if parts:
            what = text("doctor.not_built_without", library=name, parts=", ".join(parts))
            return Lack(what, text("doctor.hip_compiler", build=build(name)))
        return Lack(text("doctor.not_built", library=name), build(name))
    mend = text(f"doctor.{name}_compiler" if name in COMPILERS else "doctor.host_compiler", build=build(name))
    return Lack(text("doctor.not_built_nor_can", library=name), mend)


def build(name: str) -> Text:
    return as_text(f"pip install . -C cmake.define.{OPTIONS[name]}=ON")


def _devices(facts: Facts) -> Iterator[Lack]:
    loaded = [driver for driver in facts.drivers if driver.loaded]
    if not loaded:
        yield Lack(text("doctor.no_gpu"), text("doctor.no_gpu_mend"))
    for driver in loaded:
        if not driver.usable:
            yield Lack(*_not_usable(driver))
    for library in facts.libraries:
        if library.name in COMPILERS and library.answer is not None and not library.answer.broken and not library.works:
            reason = library.answer.reason or as_text("?")
            yield Lack(text("doctor.no_device", library=library.name, reason=reason), text("doctor.no_device_mend"))


def _not_usable(driver: Driver) -> tuple[Text, Text]:
    if driver.vendor == "AMD":
        return text("doctor.no_kfd"), text("doctor.no_kfd_mend")
    return text("doctor.no_nvidiactl"), text("doctor.no_nvidiactl_mend")


def _masks(facts: Facts) -> Iterator[Lack]:
    for name, value in facts.masks.items():
        if value is not None and not masks.entries(value):
            yield Lack(text("doctor.hides_all", name=name, value=value), as_text(f"unset {name}"))
    amd = any(driver.vendor == "AMD" and driver.loaded for driver in facts.drivers)
    if amd and facts.masks[masks.CUDA] is not None and any(facts.masks[name] for name in (masks.ROCR, masks.HIP)):
        yield Lack(text("doctor.two_masks"), as_text(f"unset {masks.CUDA}"))


def _extras(facts: Facts) -> Iterator[Lack]:
    for extra, packages in facts.packages.items():
        absent = [name for name, version in packages.items() if version is None]
        if absent:
            costs = text(f"doctor.without_{extra}")
            what = text("doctor.no_extra", extra=extra, packages=", ".join(absent), costs=costs)
            yield Lack(what, as_text(f"pip install 'pytest-greta[{extra}]'"))


def _models(facts: Facts) -> Iterator[Lack]:
    for model in facts.models:
        if model.state == "absent":
            yield Lack(text("doctor.no_model", name=model.name), as_text(f"greta model pull {model.name}"))
        elif model.state == "wrong":
            yield Lack(
                text("doctor.wrong_model", name=model.name), as_text(f"greta model pull {model.name} --force"), True
            )
