"""Sessions over device memory: nothing that lies there can be checked by the host, so the kernels do. In the emulation
device memory is the process's own, which lets a test play the device."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from attention_cases import config, int32
from hip_cases import emulated

from pytest_greta.backends.native import declarations
from pytest_greta.backends.native_config import greta_config

ROWS, PAGE, N_PAGES = 40, 16, 6


class Device:
    """Two sequences of up to 40 rows in pages of 16; arrays stand where the kernels look at them."""

    def __init__(self) -> None:
        self.ffi = declarations()
        self.lib = self.ffi.dlopen(str(emulated().path))
        keep: list[Any] = []
        c = greta_config(self.ffi, config(max_len=ROWS, page_size=PAGE, n_pages=N_PAGES), keep)
        c.memory = 1
        handle = self.ffi.new("greta_session **")
        assert self.lib.greta_open(c, handle) == 0, self.words()
        self.session = handle[0]
        self.arrays = {
            "cu_q": int32([0, 2, 3]),
            "kv_len": int32([20, 3]),
            "kv_start": int32([0, 0]),
            "positions": int32([18, 19, 2]),
            "slots": int32([18, 19, 2]),
            "seq_ids": int32([1, 0]),
            "block_table": int32([[4, 0, 5], [2, 1, 3]]),
        }
        self.q = np.ones((3, 4, 16), np.float32)
        self.k = np.ones((3, 2, 16), np.float32)
        self.out = np.zeros((3, 4, 16), np.float32)

    def words(self) -> str:
        return str(self.ffi.string(self.lib.greta_last_error()).decode())

    def batch(self) -> Any:
        b = self.ffi.new("greta_batch *")
        b.struct_size = self.ffi.sizeof("greta_batch")
        b.n_seqs, b.n_tokens, b.max_q_len, b.max_kv_len = 2, 3, 2, ROWS
        for name, array in self.arrays.items():
            setattr(b, name, self.ffi.cast("int32_t *", array.ctypes.data))
        return b

    def tensor(self, x: np.ndarray) -> Any:
        t = self.ffi.new("greta_tensor *")
        t.data, t.dtype = self.ffi.cast("void *", x.ctypes.data), 0
        t.token_stride, t.head_stride = x.shape[1] * 16, 16
        return t

    def attend(self, phase: int) -> None:
        none = self.ffi.NULL
        status = self.lib.greta_attend(
            self.session, 0, phase, self.batch(), self.tensor(self.q), none, none, self.tensor(self.out), none
        )
        assert status == 0, self.words()

    def write(self) -> None:
        status = self.lib.greta_kv_write(self.session, 0, self.batch(), self.tensor(self.k), self.tensor(self.k))
        assert status == 0, self.words()

    def sync(self) -> str:
        return "" if self.lib.greta_sync(self.session) == 0 else self.words()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Device]:
    monkeypatch.setenv("GRETA_HIP_KERNELS", getattr(request, "param", "fast"))
    device = Device()
    yield device
    device.lib.greta_close(device.session)


both = pytest.mark.parametrize("device", ["fast", "naive"], indirect=True)


@both
@pytest.mark.parametrize("phase", [0, 1])
@pytest.mark.parametrize(
    ("name", "index", "value", "message"),
    [
        ("block_table", (0, 1), 6, "row 1[6-9] lies on page 6, expected 0 .. 5"),
        ("block_table", (0, 0), -1, "row [0-9]+ lies on page -1, expected 0 .. 5"),
        ("block_table", (1, 0), 1 << 30, "lies on page 1073741824"),
        ("kv_len", 0, ROWS + 1, "kv_len.0. is 41, expected 0 .. max_len 40"),
        ("kv_len", 1, -5, "kv_len.1. is -5"),
        ("kv_start", 0, 21, "kv_start.0. is 21"),
        ("cu_q", 1, 4, "cu_q.1. is 4, expected ascending values that n_tokens and max_q_len allow"),
        ("cu_q", 1, -1, "cu_q.1. is -1"),
        ("seq_ids", 0, 2, "seq_ids.0. is 2, expected 0 .. 1"),
    ],
)
def test_what_is_wrong_on_the_device_is_said_by_sync_once(
    device: Device, phase: int, name: str, index: Any, value: int, message: str
) -> None:
    device.write()
    assert device.sync() == ""
    right = device.arrays[name][index]
    device.arrays[name][index] = value
    device.attend(phase)
    assert re.search(message, device.sync())
    device.arrays[name][index] = right
    device.attend(phase)
    assert device.sync() == ""


def test_a_slot_outside_is_not_written(device: Device) -> None:
    device.arrays["slots"][0] = ROWS
    device.write()
    assert "slots[0] is 40, expected 0 .. 39" in device.sync()


def test_calls_with_other_lengths_in_the_same_arrays(device: Device) -> None:
    """What a captured graph does: the same call again, after the arrays' contents changed."""
    device.write()
    device.attend(1)
    assert device.sync() == ""
    device.arrays["kv_len"][:] = [3, 20]
    device.arrays["seq_ids"][:] = [0, 1]
    device.arrays["block_table"][:] = device.arrays["block_table"][::-1].copy()
    device.attend(1)
    assert device.sync() == ""


def test_shapes_are_checked_at_once(device: Device) -> None:
    b = device.batch()
    b.n_tokens = 0
    t = device.tensor(device.q)
    none = device.ffi.NULL
    assert device.lib.greta_attend(device.session, 0, 0, b, t, none, none, t, none) == 1
    assert "batch.n_tokens is 0, expected 1 or more" in device.words()
    b = device.batch()
    b.block_table = none
    assert device.lib.greta_attend(device.session, 0, 0, b, t, none, none, t, none) == 1
    assert "batch.block_table is NULL" in device.words()
