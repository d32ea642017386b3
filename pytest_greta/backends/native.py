"""An attention library behind the C ABI of ``greta_attn.h``, called through cffi.

The declarations are cffi's out-of-line ABI module, written from the header when the package is built and installed
beside the two built-in libraries in ``_greta_native``. Any other library is opened by its path.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_greta.backends.base import BackendError, BackendMissing, Description, SessionConfig, Unsupported
from pytest_greta.backends.forks import called
from pytest_greta.backends.native_config import asked_features, greta_config
from pytest_greta.backends.native_description import OPTIONAL, description
from pytest_greta.backends.native_library import Library
from pytest_greta.backends.native_session import NativeSession
from pytest_greta.texts import text

__all__ = ["OPTIONAL", "REQUIRED", "NativeBackend", "description", "load"]

INSTALL = text("native.install")
BUILT_IN = "libgreta_attn{}.so"
FAULTY_TWIN = "libgreta_attn{}_faulty.so"
"""With an ending: none, the CPU's; _hip, _cuda, _hip_emulated, each built by a CMake option of its name."""
REQUIRED = ("greta_abi_version", "greta_describe", "greta_open", "greta_close", "greta_attend")
_NEVER_CLOSED: dict[str, Any] = {}
"""By path. cffi closes a library with its last reference, but a runtime that it brought (OpenMP, HIP) may have threads
waiting in the code that would be unmapped."""


def declarations() -> Any:
    """cffi's ``ffi``; ``BackendMissing`` where the package is installed only in part."""
    try:
        from _greta_native._abi import ffi
    except ImportError as error:
        raise BackendMissing("library", text("native.not_installed"), INSTALL) from error
    return ffi


def _built_in(name: str) -> Path:
    import _greta_native

    return Path(next(iter(_greta_native.__path__))) / name


def load(path: Path | None = None, *, faulty: bool = False, ending: str = "") -> NativeBackend:
    """The library at ``path``, or the built-in one of that ``ending``; with ``faulty`` the built-in one's twin, for
    ``inject`` only.

    Raises ``BackendMissing`` when there is none, when it is no shared library, speaks another ABI or lacks a required
    function; ``BackendError`` when what it says of itself cannot be read.
    """
    ffi = declarations()
    if path is None:
        path = _built_in((FAULTY_TWIN if faulty else BUILT_IN).format(ending))
        if not path.is_file():
            how = text("native.build", option=f"GRETA{ending.upper()}") if ending else INSTALL
            raise BackendMissing("library", text("native.absent", path=path), how)
    backend = NativeBackend(open_library(ffi, path))
    if backend.faulty and not faulty:
        raise BackendMissing("library", text("native.twin", path=path), text("native.twin_mend"))
    return backend


def open_library(ffi: Any, path: Path) -> Library:
    """Raises ``BackendMissing`` as ``load`` does."""
    if not path.is_file():
        what = text("native.folder" if path.is_dir() else "native.no_library", path=path)
        raise BackendMissing("library", what, text("native.give_path"))
    try:
        lib = called(path, "dlopen", ffi.dlopen, str(path.resolve()))
    except OSError as error:
        what = text("native.not_loaded", path=path, error=error)
        raise BackendMissing("library", what, text("native.not_loaded_mend")) from error
    _NEVER_CLOSED[str(path.resolve())] = lib  # also one that is refused below: its constructors have run
    library = Library(ffi, lib, path)
    missing = [name for name in REQUIRED if not library.exports(name)]
    if missing:
        what = text("native.lacks", path=path, names=", ".join(missing))
        raise BackendMissing("library", what, text("native.lacks_mend"))
    ours, theirs = ffi.integer_const("GRETA_ABI_VERSION"), library.call("greta_abi_version")
    if ours != theirs:
        what = text("native.abi", path=path, theirs=theirs, ours=ours)
        raise BackendMissing("library", what, text("native.abi_mend"))
    return library


class NativeBackend:
    """An opened library. ``load`` makes one."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self.path = library.path
        self.faulty = bool(library.describe().get("faulty", False)) or library.exports("greta_fault_set")

    def describe(self) -> Description:
        return description(self._library.describe(), self._library.optional, str(self.path))

    def device_count(self) -> int:
        """1 where the library does not tell."""
        if "device_count" not in self._library.optional:
            return 1
        count = self._library.ffi.new("int32_t *")
        self._library.check(self._library.call("greta_device_count", count))
        return int(count[0])

    def open(self, config: SessionConfig) -> NativeSession:
        """Over the memory that ``config`` names, or over a device's where the library takes no other."""
        spaces = self.describe().memory
        memory = "device" if spaces == ("device",) else config.memory
        if memory not in spaces:
            raise Unsupported("device_memory", text("native.no_device_memory", path=self.path))
        if memory == "host":
            return NativeSession(self._library, self._open(config), config)
        from pytest_greta.backends.native_device import DeviceSession, Space

        space = Space.of(self.describe().device_kind, config.device, config.stream)
        config = replace(config, memory="device", stream=space.stream)
        return DeviceSession(self._library, self._open(config), config, space)

    def _open(self, config: SessionConfig) -> Any:
        ffi, keep = self._library.ffi, list[Any]()
        try:
            c_config = greta_config(ffi, config, keep)
        except OverflowError as error:
            raise ValueError(f"a number of the configuration does not fit the ABI: {error}") from error
        handle = ffi.new("greta_session **")
        try:
            self._library.check(self._library.call("greta_open", c_config, handle))
        except Unsupported as error:
            raise self._explained(error, config) from None
        if handle[0] == ffi.NULL:
            raise BackendError("GRETA_INTERNAL", text("native.no_session", path=self.path))
        return handle[0]

    def _explained(self, error: Unsupported, config: SessionConfig) -> Unsupported:
        """The same with what was asked for and is not declared, which a library may have left unsaid."""
        said = self.describe()
        if lacks := ", ".join(sorted(asked_features(config) - said.features)):
            have = ", ".join(sorted(said.features)) or "-"
            message = text("native.undeclared", path=self.path, asked=lacks, features=have)
            given = (error.feature, error.message_text) if error.feature != "?" else (lacks, message)
            return Unsupported(*given, text("native.undeclared_mend", asked=lacks))
        return error

    def set_fault(
        self, kind: str, phase: int = -1, layer: int = -1, head: int = -1, position: int = -1, magnitude: float = 0.0
    ) -> None:
        """Plants an in-kernel fault; -1 stands for all. Only a faulty twin has this."""
        self._require_twin()
        lib = self._library.lib
        self._library.check(lib.greta_fault_set(kind.encode(), phase, layer, head, position, magnitude))

    def clear_fault(self) -> None:
        self._require_twin()
        self._library.check(self._library.lib.greta_fault_clear())

    def fault_fired(self) -> int:
        """Attention calls since ``set_fault`` of which the fault changed at least one byte."""
        self._require_twin()
        return int(self._library.lib.greta_fault_fired())

    def _require_twin(self) -> None:
        if not self._library.exports("greta_fault_set"):
            raise BackendError("GRETA_UNSUPPORTED", text("native.not_a_twin", path=self.path))
