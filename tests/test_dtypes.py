"""The device's own fp8."""

from __future__ import annotations

import pytest

import pytest_greta as greta
from pytest_greta.dtypes import dtype_of, stored_name
from pytest_greta.trace.records import Key


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("hip gfx942", "fp8_e4m3fnuz"),
        ("emulated gfx942", "fp8_e4m3fnuz"),
        ("hip gfx950", "fp8_e4m3fn"),
        ("hip gfx90a", "fp8_e4m3fn"),
        ("emulated sm_90", "fp8_e4m3fn"),
        ("cuda", "fp8_e4m3fn"),
        ("cpu", "fp8_e4m3fn"),
    ],
)
def test_fp8_e4m3_is_the_device_s_own(kind: str, own: str) -> None:
    """CDNA 3 alone has the fnuz types (header, ``greta_dtype``); a type that is named in full is meant."""
    assert stored_name("fp8_e4m3", kind) == own
    for name in ("bf16", "fp8_e4m3fn", "fp8_e4m3fnuz"):
        assert stored_name(name, kind) == name


@pytest.mark.parametrize(("backend", "own"), [("cpu", "fp8_e4m3fn"), ("hip-emulated", "fp8_e4m3fnuz")])
def test_a_case_stores_the_device_s_own(backend: str, own: str) -> None:
    run = greta.probe("synthetic", list(range(1, 9)), backend=backend, layers=[0], kv_dtype="fp8_e4m3")
    assert {dtype_of(run.trace.paths["decode"].taps[Key(0, "kv_read", part)].values).name for part in "kv"} == {own}
