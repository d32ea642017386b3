"""What holds in every test below: no error of ours is raised that says nothing in Spanish."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pytest_greta.backends.base import BackendMissing
from pytest_greta.cases.model import CaseError
from pytest_greta.engine.store import ModelError

FOLDERS = ("cases", "engine", "native")
"""The tests of the plugin raise errors of their own, with the plain words of a user's library."""


@pytest.fixture(autouse=True, scope="module")
def every_error_has_a_spanish_line(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.path.parent.name not in FOLDERS:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        for kind in (CaseError, ModelError, BackendMissing):
            patch.setattr(kind, "__init__", _checked(kind.__init__))
        yield


def _checked(init: Any) -> Any:
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        english, spanish = str(self).splitlines(), self.text("es").splitlines()
        assert len(english) == len(spanish)
        for one, other in zip(english, spanish, strict=True):
            assert one != other, f"only in English: {one}"
        if isinstance(self, CaseError):
            assert self.text("both") == "\n".join([*spanish, *english])
            assert spanish[0].startswith(f"{self.where}: ")
            assert english[0].startswith(f"{self.where}: ")

    return checked
