"""``--greta-devices``: one device a worker of xdist, by a mask within the caller's. No GPU is initialised here."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_greta import masks, texts
from pytest_greta import settings as settings_
from pytest_greta.options import FILES_INI

NONE = "none"
AMD, NVIDIA = "AMD", "NVIDIA"
_ROOT = Path("/")


@dataclass(frozen=True)
class Mask:
    """``variable`` is what the workers get, each with one of ``entries``; those stand at ``indices`` of the caller's
    devices."""

    variable: str
    entries: tuple[str, ...]
    indices: tuple[int, ...]

    def of_worker(self, number: int) -> dict[str, str]:
        """Workers beyond the last device share: the first of them has the first device again."""
        return {self.variable: self.entries[number % len(self.entries)]}

    def index_of(self, entry: str) -> int:
        return self.indices[self.entries.index(entry)]


def for_workers(config: pytest.Config) -> Mask | None:
    """What to share out among workers; None for nothing. Raises ``pytest.UsageError`` for a device that is not there.

    By default only a run that may have cases gets masks: who merely has the plugin installed keeps all devices.
    """
    settings = _settings(config)
    if settings is None or settings["devices"] == NONE:
        return None
    if isinstance(settings["devices"], tuple):
        return _listed(settings)
    if "devices" not in settings.sources and not (_may_have_devices(settings) and may_have_cases(config)):
        return None
    vendor, count = _found(settings)
    return _first(vendor, count) if count else None


def for_this_process(config: pytest.Config) -> dict[str, str]:
    """Without workers a list of devices masks this process, which uses the first; ``auto`` leaves all as it is."""
    settings = _settings(config)
    if settings is None or not isinstance(settings["devices"], tuple):
        return {}
    mask = _listed(settings)
    return {mask.variable: ",".join(mask.entries)}


def count_for_auto(config: pytest.Config) -> int | None:
    """For ``-n auto``: a worker a device, where the user asked for devices."""
    settings = _settings(config)
    if settings is None or "devices" not in settings.sources:
        return None
    mask = for_workers(config)
    return len(mask.entries) if mask is not None else None


def _settings(config: pytest.Config) -> settings_.Settings | None:
    """None where one is wrong, which is said once there are cases."""
    try:
        return settings_.read(config)
    except pytest.UsageError:
        return None


def _listed(settings: settings_.Settings) -> Mask:
    wanted: tuple[int, ...] = settings["devices"]
    variable, outer = masks.innermost(os.environ, _vendor(settings))
    if outer is None:
        return Mask(variable, tuple(map(str, wanted)), wanted)
    if beyond := [index for index in wanted if index >= len(outer)]:
        values = {"source": settings.sources["devices"], "device": beyond[0], "count": len(outer)}
        said = texts.text("devices.beyond", variable=variable, mask=os.environ[variable], **values)
        raise pytest.UsageError("\n".join(said.lines(settings["lang"])))
    return Mask(variable, tuple(outer[index] for index in wanted), wanted)


def _first(vendor: str, count: int) -> Mask:
    """The first ``count`` of what the caller sees."""
    variable, outer = masks.innermost(os.environ, vendor)
    seen = tuple(map(str, range(count))) if outer is None else outer[:count]
    return Mask(variable, seen, tuple(range(len(seen))))


def _vendor(settings: settings_.Settings) -> str:
    """Whose variable is to be set: by the library's name, by the caller's masks, by the drivers that are loaded."""
    from pytest_greta.doctor.gather import amd_driver, nvidia_driver

    if settings["backend"] in ("hip", "cuda"):
        return AMD if settings["backend"] == "hip" else NVIDIA
    if masks.ROCR in os.environ or masks.HIP in os.environ:
        return AMD
    amd, nvidia = amd_driver(_ROOT), nvidia_driver(_ROOT)
    return NVIDIA if not amd.loaded and (nvidia.loaded or masks.CUDA in os.environ) else AMD


def _found(settings: settings_.Settings) -> tuple[str, int]:
    """Vendor and number of the devices that this run may use: as the library that it names says, in a process of its
    own, or else as the drivers list them."""
    from pytest_greta.doctor.ask import ask
    from pytest_greta.doctor.gather import amd_driver, built_in_file, nvidia_driver

    path = Path(settings["library"]) if settings["library"] else built_in_file(str(settings["backend"]))
    if path is not None:
        answer = ask(path) if path.is_file() else None
        if answer is None or answer.devices is None or answer.kind == "cpu" or answer.kind.startswith("emulated"):
            return AMD, 0
        return NVIDIA if "cuda" in answer.kind.lower() else AMD, answer.devices
    for driver in (amd_driver(_ROOT), nvidia_driver(_ROOT)):
        if driver.usable and driver.cards:
            _, outer = masks.innermost(os.environ, driver.vendor)
            return driver.vendor, len(driver.cards) if outer is None else len(outer)
    return AMD, 0


def _may_have_devices(settings: settings_.Settings) -> bool:
    """Cheap, and asked first: who has no GPU does not wait until all folders have been looked through."""
    from pytest_greta.doctor.gather import amd_driver, nvidia_driver

    return bool(settings["library"] or settings["backend"]) or amd_driver(_ROOT).loaded or nvidia_driver(_ROOT).loaded


def may_have_cases(config: pytest.Config) -> bool:
    """Whether what was named on the command line is, or holds, a case file. Stops at the first."""
    patterns = config.getini(FILES_INI)
    skipped = config.getini("norecursedirs")
    base = config.invocation_params.dir
    for word in config.args:
        path = base / word.partition("::")[0]
        if path.is_file() and (path.suffix in (".yaml", ".yml") or any(path.match(p) for p in patterns)):
            return True
        for _, folders, files in os.walk(path):
            if any(fnmatch.fnmatch(file, pattern) for pattern in patterns for file in files):
                return True
            folders[:] = [name for name in folders if not any(fnmatch.fnmatch(name, skip) for skip in skipped)]
    return False


def note(mask: Mask, given: Sequence[tuple[str, str]]) -> texts.Text:
    """Which worker has which device."""
    shown = ", ".join(f"{worker} {entry}" for worker, entry in given)
    values = {"variable": mask.variable, "shown": shown}
    if len(given) > len(mask.entries):
        return texts.text("devices.shared", workers=len(given), devices=len(mask.entries), **values)
    return texts.text("devices.given", **values)
