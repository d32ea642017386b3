"""The kernels of llama.cpp's own object, called one by one: its blocks are the reference's, its products in bounds."""

from __future__ import annotations

from typing import Any

import gguf
import numpy as np
import pytest
from cffi import FFI

from pytest_greta.backends.base import Numerics
from pytest_greta.checks import blocks
from pytest_greta.checks.rounding import error
from pytest_greta.dtypes import F32
from pytest_greta.engine.gguf_blocks import minima_of
from pytest_greta.engine.spec import BlockDot
from pytest_greta.llamacpp.library import library
from pytest_greta.llamacpp.numerics import BLOCKS
from tests.llamacpp.small_files import by_llama_cpp

pytestmark = pytest.mark.llamacpp

FORMS = {"q8_0": (34, 0, 2), "q8_1": (36, 0, 4), "q8_K": (292, 0, 4)}
"""Bytes a block, where its step lies, where its whole numbers begin."""


@pytest.fixture(scope="module")
def ggml() -> tuple[FFI, Any]:
    ffi = FFI()
    products = [f"ggml_vec_dot_{name.lower().replace('k', 'K')}_{kind}" for name, kind in BLOCKS.items()]
    ffi.cdef(
        "".join(f"void quantize_row_{kind}(const float *x, void *y, int64_t k);" for kind in FORMS)
        + "".join(
            f"void {name}(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy, size_t by, int nrc);"
            for name in products
        )
    )
    return ffi, ffi.dlopen(library("llamacpp:-").path)


def in_blocks(ggml: tuple[FFI, Any], kind: str, x: np.ndarray) -> np.ndarray:
    """[R, blocks, bytes] as ``quantize_row_*`` makes them."""
    ffi, lib = ggml
    size, n = blocks.SIZES[kind], x.shape[1]
    made = np.zeros((len(x), n // size, FORMS[kind][0]), np.uint8)
    for row, out in zip(x, made, strict=True):
        getattr(lib, f"quantize_row_{kind}")(ffi.from_buffer("float[]", row), ffi.from_buffer(out), n)
    return made


def rows(seed: int, count: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((count, n)) * rng.choice([1e-3, 1, 1, 40], size=n)).astype(np.float32)
    x[0] = 0
    x[1, :] = np.tile([127, *(np.arange(31) + 0.5)], n // 32)  # every other element in the middle between two steps
    x[2] *= np.float32(1e-6)  # steps that are subnormal in f16
    return x


@pytest.mark.parametrize("kind", FORMS)
def test_blocks_are_the_references(ggml: tuple[FFI, Any], kind: str) -> None:
    x = rows(1, 200, 1536)
    made, found = in_blocks(ggml, kind, x), blocks.rounded(x, kind)
    _, step, first = FORMS[kind]
    dtype = np.float32 if kind == "q8_K" else np.float16
    sign = 1.0
    steps = np.ascontiguousarray(made[..., step : step + np.dtype(dtype).itemsize]).view(dtype)[..., 0].astype(float)
    if kind == "q8_K":  # its step has the sign that makes the largest element -127
        sign = np.where(steps < 0, -1.0, 1.0)[..., None]
    assert np.array_equal(np.abs(steps), found.step)
    whole = sign * made[..., first : first + blocks.SIZES[kind]].view(np.int8)
    differ = whole != found.whole
    assert not (differ & ~found.undecided & (found.step > 0)[..., None]).any()
    assert found.undecided.any()
    if kind == "q8_1":
        sums = np.ascontiguousarray(made[..., 2:4]).view(np.float16)[..., 0].astype(float)
        kept, off = blocks._kept_sum(found)
        decided = ~found.undecided.any(axis=-1)
        assert np.array_equal(sums[decided], kept[decided])
        assert (off[decided] == 0).all()


@pytest.mark.parametrize("name", BLOCKS)
def test_products_are_in_bounds(ggml: tuple[FFI, Any], name: str) -> None:
    ffi, lib = ggml
    rng, worst = np.random.default_rng(2), 0.0
    kind = gguf.GGMLQuantizationType[name]
    product = getattr(lib, f"ggml_vec_dot_{name.lower().replace('k', 'K')}_{BLOCKS[name]}")
    for n in (256, 512, 1536):
        x = rows(n, 40, n)
        values = (rng.standard_normal((24, n)) + rng.choice([-1.0, 0.0, 1.0], size=(24, 1))).astype(np.float32)
        raw = by_llama_cpp(values, kind)
        made = in_blocks(ggml, BLOCKS[name], x)
        y, one = np.zeros((len(x), len(raw)), np.float32), ffi.new("float *")
        for r, row in enumerate(made):
            for o, weights in enumerate(raw):
                product(n, one, 0, ffi.from_buffer(weights), 0, ffi.from_buffer(row), 0, 1)
                y[r, o] = one[0]
        matrix = gguf.quants.dequantize(raw, kind)
        dot = BlockDot(BLOCKS[name], minima_of(raw, name))
        reference = blocks.linear(x, matrix, dot, None, Numerics(dot_blocks=True))
        wrong, _ = error(reference.y, y, F32)
        worst = max(worst, float((wrong / reference.b1)[2:].max()), float((wrong / reference.b1)[0].max()))
        assert (wrong <= reference.b1).all()
        clearest = np.unravel_index(np.argmax(np.abs(y) / reference.b1), y.shape)
        y[clearest] *= np.float32(1 + 2.0**-9)
        wrong, _ = error(reference.y, y, F32)
        assert np.argwhere(wrong > reference.b1).tolist() == [list(clearest)]
    print(f"{name}: worst {worst:.3f}")
    assert worst < 1.0
