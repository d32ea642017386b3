"""Storage types by the names that users type, and the few numbers of each that the checks need.

One place for every property of a number format; nothing else in the package spells a mantissa width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_finfo: Any = ml_dtypes.finfo  # untyped in ml_dtypes


@dataclass(frozen=True)
class DType:
    """A storage type.

    ``p`` is the precision in bits, hidden bit included, so that ``u = 2**-p`` is half an ulp at 1.
    """

    name: str
    numpy: np.dtype[Any]
    p: int
    abi: int
    """The value of ``greta_dtype`` in ``greta_attn.h``."""

    @property
    def u(self) -> float:
        """Unit roundoff, 2**-p."""
        return 2.0**-self.p

    @cached_property
    def max(self) -> float:
        """Largest finite value."""
        return float(_finfo(self.numpy).max)

    @cached_property
    def smallest_normal(self) -> float:
        return float(_finfo(self.numpy).smallest_normal)

    @cached_property
    def smallest_subnormal(self) -> float:
        return float(_finfo(self.numpy).smallest_subnormal)

    @property
    def has_inf(self) -> bool:
        """False for the fp8 types, which overflow to NaN or saturate."""
        return self.name in ("f32", "bf16", "f16")

    @property
    def itemsize(self) -> int:
        return int(self.numpy.itemsize)


F32 = DType("f32", np.dtype(np.float32), 24, 0)
BF16 = DType("bf16", np.dtype(ml_dtypes.bfloat16), 8, 1)
F16 = DType("f16", np.dtype(np.float16), 11, 2)
FP8_E4M3FN = DType("fp8_e4m3fn", np.dtype(ml_dtypes.float8_e4m3fn), 4, 3)
FP8_E4M3FNUZ = DType("fp8_e4m3fnuz", np.dtype(ml_dtypes.float8_e4m3fnuz), 4, 4)

DTYPES: dict[str, DType] = {d.name: d for d in (F32, BF16, F16, FP8_E4M3FN, FP8_E4M3FNUZ)}


def stored_name(name: str, device_kind: str) -> str:
    """``fp8_e4m3`` is the device's own: e4m3fnuz on gfx942, e4m3fn elsewhere. Other names mean what they say."""
    if name != "fp8_e4m3":
        return name
    return FP8_E4M3FNUZ.name if "gfx942" in device_kind else FP8_E4M3FN.name


def dtype_of(array: Array) -> DType:
    """The storage type of an array. Raises ``TypeError`` for a type that no attention library stores."""
    for dtype in DTYPES.values():
        if array.dtype == dtype.numpy:
            return dtype
    raise TypeError(f"{array.dtype} is not a storage type; expected one of {', '.join(DTYPES)}")
