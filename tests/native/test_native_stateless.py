"""A stateless library behind the ABI gets the rows of the engine's cache, in its type and scaled as ours would be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attention_cases import backend, batch, compile_library, config, randn

from pytest_greta.backends import native
from pytest_greta.backends.base import LayerConfig
from pytest_greta.backends.complete import Completed

SOURCE = """
#include "greta_attn.h"
struct greta_session { int unused; };
int32_t greta_abi_version(void) { return 1; }
const char *greta_describe(void) {
  return R"({"name": "mine", "kernels": {"prefill": "p", "decode": "d"}, "kv": "stateless"})";
}
greta_status greta_open(const greta_config *, greta_session **s) { *s = new greta_session; return GRETA_OK; }
void greta_close(greta_session *s) { delete s; }
greta_status greta_attend(greta_session *, int32_t, int32_t, const greta_batch *, const greta_tensor *,
    const greta_tensor *k, const greta_tensor *v, const greta_tensor *out, const greta_tensor *) {
  static_cast<float *>(out->data)[0] = static_cast<float>(10 * k->dtype + v->dtype);
  return GRETA_OK;
}
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> native.NativeBackend:
    return native.load(compile_library(tmp_path_factory.mktemp("stateless"), SOURCE))


@pytest.mark.parametrize(("kv", "number"), [("f32", 0), ("bf16", 1), ("fp8_e4m3fn", 3), ("fp8_e4m3fnuz", 4)])
def test_rows_come_in_the_type_of_the_cache(mine: native.NativeBackend, kv: str, number: int) -> None:
    c = config(kv_dtype=kv)
    with mine.open(c) as inner:
        session = Completed(inner, mine.describe(), c)
        rows = np.ones((3, 2, 16), np.float32)
        session.kv_write(0, batch([3], [3]), rows, rows)
        out, _ = session.attend(0, "decode", batch([1], [3]), np.ones((1, 4, 16), np.float32))
    assert out.flat[0] == 11 * number


@pytest.mark.parametrize("kv", ["f32", "bf16", "f16", "fp8_e4m3fn", "fp8_e4m3fnuz"])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_engine_stores_what_our_library_stores(mine: native.NativeBackend, kv: str, scaled: bool) -> None:
    """Byte by byte, with rows that saturate."""
    scales: dict[str, Any] = {"k_scale": (0.3, 2.0), "v_scale": (7.0, 0.01)} if scaled else {}
    c = config(kv_dtype=kv, layers=(LayerConfig(rope_style="none", **scales),))
    rng = np.random.default_rng(0)
    k, v = (randn(rng, (9, 2, 16), "f32") * np.float32(200) for _ in range(2))
    stored = []
    with mine.open(c) as theirs, backend().open(c) as ours:
        for session in (Completed(theirs, mine.describe(), c), ours):
            session.kv_write(0, batch([9], [9]), k, v)
            stored.append([x.tobytes() for x in session.kv_read(0, 0, 0, 9)])
    assert stored[0] == stored[1]
