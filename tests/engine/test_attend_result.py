"""A backend in Python may return anything from ``attend``: what is wrong is said once, by name, before it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pytest_greta
from pytest_greta.backends.base import BackendError
from tests.support.plain import PlainBackend, PlainSession

BAD: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "out alone": (lambda out, lse: out, r"returned float32 \[\d+, \d+, \d+\]; expected the pair \(out, lse\)"),
    "nothing": (lambda out, lse: None, r"returned NoneType; expected the pair"),
    "three": (lambda out, lse: (out, lse, 0), r"returned tuple \(float32 \[.*, int\); expected the pair"),
    "shape": (lambda out, lse: (out[:, :-1], lse), r"returned out as float32 .*; expected float32 \["),
    "dtype": (lambda out, lse: (out.astype(np.int32), lse), r"returned out as int32 .*; expected float32 \["),
    "lse": (lambda out, lse: (out, lse[..., None]), r"returned lse as float32 .*, 1\]; expected float32 \[\d+, \d+\]"),
    "list": (lambda out, lse: (out.tolist(), lse), r"returned out as list \(list, .*\); expected float32 \["),
}


@pytest.mark.parametrize("name", BAD)
def test_what_attend_returned_and_what_was_expected(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    spoil, message = BAD[name]
    attend = PlainSession.attend
    monkeypatch.setattr(PlainSession, "attend", lambda *args: spoil(*attend(*args)))
    with pytest.raises(BackendError, match=f"attend of backend plain {message}"):
        pytest_greta.probe("synthetic", [1, 2, 3], backend=PlainBackend())
