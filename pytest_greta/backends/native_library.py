"""A shared library that speaks the ABI: its functions, its status codes in words, what it says of itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pytest_greta.backends.base import BackendError, BackendMissing, Unsupported
from pytest_greta.backends.forks import called
from pytest_greta.backends.native_description import OPTIONAL
from pytest_greta.texts import join, text

STATUS = (
    "GRETA_OK",
    "GRETA_INVALID_ARGUMENT",
    "GRETA_UNSUPPORTED",
    "GRETA_OUT_OF_MEMORY",
    "GRETA_NO_DEVICE",
    "GRETA_DEVICE_ERROR",
    "GRETA_INTERNAL",
)


class Library:
    """``ffi`` holds the declarations, ``lib`` the functions, ``optional`` the capabilities that it exports."""

    def __init__(self, ffi: Any, lib: Any, path: Path) -> None:
        self.ffi = ffi
        self.lib = lib
        self.path = path
        self.optional = frozenset(name for name in OPTIONAL if self.exports(f"greta_{name}"))

    def exports(self, name: str) -> bool:
        """cffi looks a symbol up when it is first used."""
        try:
            getattr(self.lib, name)
        except self.ffi.error:
            return False
        return True

    def call(self, name: str, *args: Any) -> Any:
        """What the function returns. Raises ``BackendError`` where it forked."""
        return called(self.path, name, getattr(self.lib, name), *args)

    def check(self, status: int) -> None:
        """Raises what a status means, in the library's own words; ``BackendMissing`` where the device is not here."""
        if status == 0:
            return
        name = STATUS[status] if 0 <= status < len(STATUS) else f"status {status}"
        message = ""
        if self.exports("greta_last_error"):
            words = self.call("greta_last_error")
            message = "" if words == self.ffi.NULL else self.ffi.string(words).decode(errors="replace")
        if name == "GRETA_UNSUPPORTED":
            feature = re.match(r"([a-z0-9_]+): ", message)
            if not message:
                raise Unsupported("?", text("native.no_why", path=self.path), text("native.no_why_mend"))
            raise Unsupported(feature.group(1) if feature else message, message)
        if name == "GRETA_NO_DEVICE":
            said = join(": ", name, message or text("native.no_reason"))
            raise BackendMissing("device", said, text("native.no_device_mend"))
        raise BackendError(name, message or text("native.no_reason"))

    def describe(self) -> dict[str, Any]:
        """The parsed object; ``BackendError`` where there is none."""
        said = self.call("greta_describe")
        if said == self.ffi.NULL:
            raise BackendError("GRETA_INTERNAL", text("describe.null", path=self.path))
        try:
            raw = json.loads(self.ffi.string(said).decode())
        except ValueError as error:
            raise BackendError("GRETA_INTERNAL", text("describe.not_json", path=self.path, error=error)) from error
        if not isinstance(raw, dict):
            raise BackendError("GRETA_INTERNAL", text("describe.not_object", path=self.path))
        return raw
