"""Which library is opened, and what is said when it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from attention_cases import backend, batch, compile_library, config

from pytest_greta.backends import native
from pytest_greta.backends.base import BackendError, BackendMissing, Unsupported

DESCRIBE = r'{"name":"mine","kernels":{"prefill":"p","decode":"d"}}'


def library(
    describe: str = DESCRIBE, abi: str = "GRETA_ABI_VERSION", attend: str = "greta_attend", lse: str = "43"
) -> str:
    """The smallest user library: the five required functions."""
    quoted = "nullptr" if describe == "NULL" else f'R"greta({describe})greta"'
    return f"""
#include "greta_attn.h"
struct greta_session {{ int unused; }};
extern "C" __attribute__((visibility("default"))) greta_status {attend}(greta_session *, int32_t, int32_t,
    const greta_batch *, const greta_tensor *, const greta_tensor *, const greta_tensor *, const greta_tensor *out,
    const greta_tensor *lse) {{
  static_cast<float *>(out->data)[0] = 42;
  if ({lse}) static_cast<float *>(lse->data)[0] = {lse};
  return GRETA_OK;
}}
int32_t greta_abi_version(void) {{ return {abi}; }}
const char *greta_describe(void) {{ return {quoted}; }}
greta_status greta_open(const greta_config *c, greta_session **s) {{
  if (c->n_layers == 9) return GRETA_DEVICE_ERROR;
  if (c->n_layers == 8) return static_cast<greta_status>(99);
  *s = new greta_session;
  return GRETA_OK;
}}
void greta_close(greta_session *s) {{ delete s; }}
"""


def test_a_library_with_the_five_functions_is_enough(tmp_path: Path) -> None:
    mine = native.load(compile_library(tmp_path, library()))
    described = mine.describe()
    assert described.name == "mine"
    assert described.features == frozenset()
    assert described.path == str(tmp_path / "libuser.so")
    assert mine.device_count() == 1
    with mine.open(config()) as session:
        out, lse = session.attend(0, "prefill", batch([1], [1]), np.ones((1, 4, 16), np.float32))
        assert out.flat[0] == 42
        assert lse is not None
        assert lse.flat[0] == 43
        with pytest.raises(Unsupported, match=r"kv_trim: .*libuser\.so does not export greta_kv_trim") as caught:
            session.kv_trim(0, 0)
        assert caught.value.feature == "kv_trim"
    for layers, message in ((9, "GRETA_DEVICE_ERROR: the library gives no reason"), (8, "status 99: ")):
        with pytest.raises(BackendError, match=message):
            mine.open(config(n_layers=layers))


def test_what_a_library_leaves_unwritten_is_not_taken_for_a_result(tmp_path: Path) -> None:
    mine = native.load(compile_library(tmp_path, library(lse="0")))
    with mine.open(config()) as session:
        out, lse = session.attend(0, "prefill", batch([1], [1]), np.ones((1, 4, 16), np.float32))
    assert lse is None
    assert np.isnan(out.flat[1:]).all()


def test_a_declared_function_that_is_not_exported_is_no_feature(tmp_path: Path) -> None:
    text = r'{"name":"m","kernels":{"prefill":"p","decode":"d"},"features":["kv_read","paged"]}'
    assert native.load(compile_library(tmp_path, library(text))).describe().features == {"paged"}


def test_another_abi_is_refused_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(BackendMissing, match="speaks version 2 of the ABI, this pytest-greta version 1") as caught:
        native.load(compile_library(tmp_path, library(abi="2")))
    assert caught.value.kind == "library"


def test_a_missing_symbol_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendMissing, match=r"libuser\.so lacks greta_attend"):
        native.load(compile_library(tmp_path, library(attend="greta_attends")))


@pytest.mark.parametrize(
    ("describe", "message"),
    [
        ("NULL", "greta_describe of .* returned NULL, expected a JSON object"),
        ("{", "greta_describe of .* is not JSON"),
        ("[]", "greta_describe of .* is no JSON object"),
        ('{"kernels":{"prefill":"p","decode":"d"}}', "'name' is None, expected a JSON string"),
        ('{"name":"x"}', "'kernels' is None, expected a JSON object"),
        ('{"name":"x","kernels":{"prefill":"p"}}', "'kernels' names none for decode"),
        ('{"name":"x","kernels":{"prefill":"p","decode":"d"},"kv":"some"}', "'kv' is 'some', expected cached or"),
        (
            '{"name":"x","kernels":{"prefill":"p","decode":"d"},"act_dtypes":["f64"]}',
            "'act_dtypes' holds 'f64', expected one of f32",
        ),
        (
            '{"name":"x","kernels":{"prefill":"p","decode":"d"},"numerics":{"decode":{"tiles":3}}}',
            r"numerics.decode.tiles is unknown; known: tile, ",
        ),
        (
            '{"name":"x","kernels":{"prefill":"p","decode":"d"},"numerics":{"prefill":{"tile":"3"}}}',
            r"numerics.prefill.tile is '3', expected int",
        ),
    ],
)  # fmt: skip
def test_a_broken_description_is_an_error(describe: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=message):
        native.load(compile_library(tmp_path, library(describe))).describe()


def test_what_is_no_shared_library(tmp_path: Path) -> None:
    text = tmp_path / "notes.so"
    text.write_text("not a library", encoding="utf-8")
    for path, message in (
        (tmp_path / "nothing.so", "nothing.so does not exist"),
        (tmp_path, "is a folder"),
        (text, "notes.so cannot be loaded: "),
    ):
        with pytest.raises(BackendMissing, match=message) as caught:
            native.load(path)
        assert caught.value.kind == "library"
        assert caught.value.mend


def test_without_the_native_package_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_greta_native", None)
    monkeypatch.setitem(sys.modules, "_greta_native._abi", None)
    with pytest.raises(BackendMissing, match=r"is not installed; install it with `pip install \.`") as caught:
        native.load()
    assert caught.value.kind == "library"


def test_without_the_built_in_file_the_message_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(native, "_built_in", lambda name: tmp_path / name)
    with pytest.raises(BackendMissing, match=r"libgreta_attn\.so does not exist; install it with"):
        native.load()


def test_importing_the_package_loads_no_native_code() -> None:
    names = ("cffi", "_cffi_backend", "_greta_native", "numpy")
    code = f"import sys, pytest_greta; print([name for name in {names} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_a_library_that_has_started_threads_is_never_unmapped() -> None:
    """dlclose under waiting OpenMP threads is a crash a moment later; this much work makes the library start some."""
    code = """
import gc, time
import numpy as np
from attention_cases import backend, batch, config
from pytest_greta.backends import native
n = 512
with backend().open(config(n_heads=64, max_len=n, threads=4)) as session:
    session.attend(0, "prefill", batch([n], [n]), np.ones((n, 64, 16), np.float32))
del session
native._NEVER_CLOSED.clear()
gc.collect()
time.sleep(0.3)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_the_built_in_library_describes_itself() -> None:
    described = backend().describe()
    assert (described.name, described.device_kind, described.one_kernel) == ("greta-cpu", "cpu", False)
    assert described.act_dtypes == ("f32", "bf16", "f16")
    assert described.kv_dtypes == described.p_dtypes == (*described.act_dtypes, "fp8_e4m3fn", "fp8_e4m3fnuz")
    assert {
        "rope",
        "kv_write",
        "kv_read",
        "kv_load",
        "kv_trim",
        "counters",
        "sync",
        "device_count",
    } <= described.features
    assert {"paged", "ragged", "gqa", "q_len", "kv_start", "partial_rotary", "rope_factors"} <= described.features
    assert (described.numerics["prefill"].tile, described.numerics["decode"].splits) == (64, 2)
    assert described.numerics["prefill"].angle == "f64"
    assert described.numerics["decode"].tanh_rel == 2.0**-22, "what native/tests/test_exp.cpp holds it to"
    assert backend().device_count() == 1


def test_the_instruction_set_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRETA_CPU_ISA", "portable")
    assert backend().describe().kernels == {"prefill": "flash_prefill_portable", "decode": "splitkv_decode_portable"}
    with backend().open(config()) as session:
        session.attend(0, "decode", batch([1], [1]), np.ones((1, 4, 16), np.float32))
        assert session.counters() == {("decode", "splitkv_decode_portable"): 1}
    monkeypatch.setenv("GRETA_CPU_ISA", "mmx")
    with pytest.raises(BackendError, match="GRETA_CPU_ISA is 'mmx', expected portable, avx2 or avx512"):
        backend().open(config())


def counting(says: str) -> str:
    """A library that says how many kernels ran."""
    return (
        library()
        + f"""
#include <cstdio>
greta_status greta_counters(greta_session *, greta_counter *counters, int32_t capacity, int32_t *count) {{
  const int n = {says};
  for (int i = 0; i < n && i < capacity; ++i) {{
    std::snprintf(counters[i].kernel, sizeof counters[i].kernel, "kernel_%d", i);
    counters[i].phase = GRETA_DECODE;
    counters[i].calls = i + 1;
  }}
  *count = n;
  return GRETA_OK;
}}
"""
    )


@pytest.mark.parametrize("kernels", [0, 1, 64, 65, 200])
def test_no_kernel_is_cut_from_the_counters(tmp_path: Path, kernels: int) -> None:
    with native.load(compile_library(tmp_path, counting(str(kernels)))).open(config()) as session:
        assert session.counters() == {("decode", f"kernel_{i}"): i + 1 for i in range(kernels)}


@pytest.mark.parametrize("says", ["-1", "70000", "2147483647", "capacity + 1"])
def test_a_number_of_kernels_that_cannot_be(tmp_path: Path, says: str) -> None:
    opened = native.load(compile_library(tmp_path, counting(says))).open(config())
    with opened as session, pytest.raises(BackendError, match=r"kernels ran; expected 0 to 65536"):
        session.counters()


def test_a_library_that_is_refused_stays_mapped_too(tmp_path: Path) -> None:
    """Its constructors have run, and what they started may still be running."""
    path = compile_library(tmp_path, library(abi="99"), "librefused.so")
    with pytest.raises(BackendMissing):
        native.load(path)
    assert "librefused.so" in Path("/proc/self/maps").read_text()
