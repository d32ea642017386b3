"""What a library may declare: an impossible value would widen a bound without end, and every fault would pass."""

from __future__ import annotations

import pytest

from pytest_greta.backends.base import BackendError, Numerics
from pytest_greta.backends.native_description import description

IMPOSSIBLE = [
    *(("acc_bits", bits) for bits in (0, -20, 7)),
    *(("exp_rel", rel) for rel in (1.0, 1e9, float("inf"), float("nan"), -1e-6)),
    *(("k_step", 0), ("dot_bits", 0), ("splits", 10**9), ("splits", -1), ("tile", -1), ("tanh_rel", 1.0)),
    *(("p_scale", 0.0), ("p_scale", -1.0), ("p_dtype", "f8"), ("acc_round", "up"), ("max_update", "lazy")),
    *(("max_update", f"lazy:{threshold}") for threshold in ("x", "nan", "-1", "inf")),
    *(("max_update", value) for value in ("none:8", "never", "")),
]


@pytest.mark.parametrize(("name", "value"), IMPOSSIBLE, ids=str)
def test_an_impossible_declaration_is_refused(name, value):
    with pytest.raises(BackendError, match=rf"numerics: {name} is .*; expected "):
        Numerics(**{name: value})
    raw = {"name": "liar", "kernels": {"prefill": "a", "decode": "b"}, "numerics": {"decode": {name: value}}}
    with pytest.raises(BackendError, match=rf"numerics: {name} is "):
        description(raw, frozenset(), "liar.so")


@pytest.mark.parametrize(("p_dtype", "least"), [("fp8_e4m3fn", 2.0**-2), ("fp8_e4m3fnuz", 2.0**-3), ("f16", 2.0**-3)])
def test_a_scale_that_leaves_nothing_of_p_is_refused(p_dtype, least):
    """Smallest normal over the unit roundoff: 2^-6, 2^-7 and 2^-14 over 2^-4, 2^-4 and 2^-11. Every weight would be a
    subnormal, or 0, and an output of nothing would be within its bound."""
    Numerics(p_dtype=p_dtype, p_scale=least)
    with pytest.raises(BackendError, match=rf"numerics: p_scale is .*; expected {least:g} to "):
        Numerics(p_dtype=p_dtype, p_scale=least / 2)


def test_what_kernels_do_can_be_declared():
    Numerics(acc_bits=11, dot_bits=11, acc_round="rz", k_step=16, max_update="lazy:8", exp_rel=2**-10, p_scale=448.0)
