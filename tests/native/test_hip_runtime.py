"""What the HIP library's host side asks of the runtime, which here is a made-up one that runs no kernel (fake_hip.c):
each error is handed on, each session keeps to its device, and over device memory a call is nothing but launches."""

from __future__ import annotations

from pathlib import Path

import pytest
from hip_build import fake_runtime, python

pytestmark = pytest.mark.system

COMMON = """
import sys
from pathlib import Path
import cffi
import numpy as np
from attention_cases import config, int32
from pytest_greta.backends.base import LayerConfig
from pytest_greta.backends.native import declarations
from pytest_greta.backends.native_config import greta_config
from pytest_greta.conformance.guarded import Buffer

ffi, keep = declarations(), []
lib = ffi.dlopen(sys.argv[1])
NULL = ffi.NULL
own = cffi.FFI()
own.cdef("void fake_hip_fail(int others, int error); long fake_hip_calls(void); const char *fake_hip_call(void);")
fake = own.dlopen("libamdhip64.so")
ROWS = np.zeros((2, 4, 16), np.float32)
LAYER = LayerConfig(rope_style="half", sinks=(0.5,) * 4, alibi=(0.5,) * 4, k_scale=(2.0,) * 2, v_scale=(2.0,) * 2)

def opened(handle, **changes):
    return lib.greta_open(greta_config(ffi, config(page_size=16, n_pages=6, layers=(LAYER,), **changes), keep), handle)

def batch(place):
    b = ffi.new("greta_batch *")
    b.struct_size = ffi.sizeof("greta_batch")
    b.n_seqs, b.n_tokens, b.max_q_len, b.max_kv_len = 1, 2, 2, 20
    for name, values in {"cu_q": [0, 2], "kv_len": [20], "kv_start": [0], "positions": [18, 19], "slots": [18, 19],
                         "seq_ids": [1], "block_table": [3, 1, 0]}.items():
        setattr(b, name, ffi.cast("int32_t *", place(int32(values))))
    return b

def tensor(place, heads, dim=16):
    return ffi.new("greta_tensor *", {"data": ffi.cast("void *", place(ROWS)), "dtype": 0,
                                      "token_stride": heads * dim, "head_stride": dim})

def calls(session, place):
    b, q, k, out, lse = batch(place), tensor(place, 4), tensor(place, 2), tensor(place, 4), tensor(place, 4, 1)
    rows = ffi.cast("void *", place(ROWS))
    yield "greta_rope", lambda s: lib.greta_rope(s, 0, 0, b, q, k)
    yield "greta_kv_write", lambda s: lib.greta_kv_write(s, 0, b, k, k)
    for phase in range(2):
        yield "greta_attend", lambda s: lib.greta_attend(s, 0, phase, b, q, NULL, NULL, out, lse)
    yield "greta_kv_load", lambda s: lib.greta_kv_load(s, 0, 1, 0, 2, rows, rows)
    yield "greta_kv_read", lambda s: lib.greta_kv_read(s, 0, 1, 0, 2, rows, rows)
    yield "greta_kv_trim", lambda s: lib.greta_kv_trim(s, 1, 1)

def here(array):
    keep.append(array)
    return array.ctypes.data
"""
ERRORS = (
    COMMON
    + """
def one(others):
    # what said so, and its words, where the call behind so many others fails
    handle = ffi.new("greta_session **")
    before = fake.fake_hip_calls()
    fake.fake_hip_fail(others, 719)
    steps = [("greta_open", lambda s: opened(handle))]
    steps += [*calls(None, here), ("greta_sync", lambda s: lib.greta_sync(s))]
    for name, step in steps:
        status = step(handle[0])
        if fake.fake_hip_calls() - before > others:
            words = ffi.string(lib.greta_last_error()).decode() if status else ""
            print(own.string(fake.fake_hip_call()).decode() if status else "?", name, status, words, sep="|")
            break
        assert status == 0, (name, status)
    reached = fake.fake_hip_calls() - before > others
    fake.fake_hip_fail(-1, 0)
    if handle[0] != NULL:
        lib.greta_close(handle[0])
    return reached

for _ in range(2):  # the first time the kernels' modules are loaded between the others
    others = 0
    while one(others):
        others += 1
    print(others)
"""
)
DEVICES = (
    COMMON
    + """
sessions = [ffi.new("greta_session **") for _ in range(2)]
for device in range(2):
    assert opened(sessions[device], device=device) == 0
for device in (1, 0, 1):
    for name, call in calls(None, here):
        assert call(sessions[device][0]) == 0, name
"""
)
DEVICE_MEMORY = (
    COMMON
    + """
def there(array):
    # an address that the host cannot read: it lies on the device
    buffer = Buffer("", array.nbytes)
    keep.append(buffer)
    buffer.lose()
    return int(ffi.cast("intptr_t", buffer.address))

handle = ffi.new("greta_session **")
assert opened(handle, memory="device", stream=0x5150) == 0
for turn in range(2):
    for name, call in calls(None, there):
        before = fake.fake_hip_calls()
        assert call(handle[0]) == 0, name
        print(turn, name, fake.fake_hip_calls() - before, own.string(fake.fake_hip_call()).decode())
"""
)


def test_every_error_of_the_runtime_is_returned_with_its_place(hip_library: Path, tmp_path: Path) -> None:
    """Of every call that is made from open to sync, one at a time; what gives memory back has nobody to tell."""
    fake_runtime(tmp_path)
    said = python(ERRORS, hip_library, tmp_path, FAKE_HIP_DEVICES="1").splitlines()
    counts = [int(line) for line in said if line.isdigit()]
    failures = [line.split("|") for line in said if not line.isdigit()]
    assert len(failures) == sum(counts)
    assert min(counts) > 50
    for failed, where, status, words in failures:
        assert status == "5", (failed, where, words)
        assert "made-up error (719), at " in words, (failed, where, words)
    assert {failed for failed, *_ in failures} == {
        *("hipSetDevice", "hipMalloc", "hipStreamCreateWithFlags", "hipStreamSynchronize", "hipMemcpyHtoDAsync"),
        *("hipMemcpyDtoHAsync", "hipMemsetD8Async", "hipModuleLoadData", "hipModuleGetFunction"),
        "hipModuleLaunchKernel",
    }


def launches(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()]


def test_each_session_keeps_to_its_own_device(hip_library: Path, tmp_path: Path) -> None:
    """Also while one for another device is open and used between its calls."""
    fake_runtime(tmp_path)
    log = tmp_path / "log"
    python(DEVICES, hip_library, tmp_path, FAKE_HIP_DEVICES="2", FAKE_HIP_LOG=str(log))
    devices = [device for *_, device, _ in launches(log)]
    third = len(devices) // 3
    assert devices == ["1"] * third + ["0"] * third + ["1"] * third


@pytest.mark.parametrize("kernels", ["fast", "naive"])
def test_over_device_memory_a_call_is_nothing_but_launches(hip_library: Path, tmp_path: Path, kernels: str) -> None:
    """On the caller's stream, after a first call: no allocation, copy or wait, and not a look at what the arrays hold.
    So a graph can hold it, and is as right when it is replayed with other lengths."""
    fake_runtime(tmp_path)
    log, environment = tmp_path / "log", {"FAKE_HIP_DEVICES": "1", "GRETA_HIP_KERNELS": kernels}
    said = python(DEVICE_MEMORY, hip_library, tmp_path, FAKE_HIP_LOG=str(log), **environment).splitlines()
    again = [line.split()[1:] for line in said if line.startswith("1 ")]
    decode = 2  # and `combine`
    counts = [1, 1, 1, decode, 1, 1, 1]
    assert [int(count) for _, count, _ in again] == [1 + count for count in counts]  # hipSetDevice first
    assert {last for *_, last in again} == {"hipModuleLaunchKernel"}
    assert len(launches(log)) == 2 * sum(counts)
    assert {stream for *_, stream in launches(log)} == {"0x5150"}
