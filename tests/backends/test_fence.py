"""What is written beyond a library's output is seen, whatever its type and size."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from pytest_greta.backends.fence import BYTES, fenced, is_broken


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
@pytest.mark.parametrize("shape", [(3, 2, 5), (1, 1, 1), (0, 2, 4)])
def test_each_byte_of_both_sides_counts_and_none_of_the_array(dtype: type, shape: tuple[int, ...]) -> None:
    array = fenced(shape, dtype, 0)
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    array[...] = np.array(1.5, dtype)
    assert not is_broken(array)
    assert array.base is not None
    for at in (0, BYTES - 1, BYTES + array.nbytes, 2 * BYTES + array.nbytes - 1):
        kept, array.base[at] = array.base[at], 1
        assert is_broken(array)
        array.base[at] = kept
    assert not is_broken(array)


def test_of_other_arrays_nothing_is_said() -> None:
    assert not is_broken(np.zeros(8, np.float32))
    assert not is_broken(np.zeros(8, np.uint8)[2:])
