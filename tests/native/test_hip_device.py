"""Sessions over device memory: nothing that lies there can be checked by the host, so the kernels do. In the emulation
device memory is the process's own, which lets a test play the device; each array ends at a page that cannot be
touched."""

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
from pytest_greta.conformance.guarded import Buffer

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
        self.buffers: list[Buffer] = []
        self.arrays = {
            "cu_q": self.array(int32([0, 2, 3])),
            "kv_len": self.array(int32([20, 3])),
            "kv_start": self.array(int32([0, 0])),
            "positions": self.array(int32([18, 19, 2])),
            "slots": self.array(int32([18, 19, 2])),
            "seq_ids": self.array(int32([1, 0])),
            "block_table": self.array(int32([[4, 0, 5], [2, 1, 3]])),
        }
        self.q = self.array(np.ones((3, 4, 16), np.float32))
        self.k = self.array(np.ones((3, 2, 16), np.float32))
        self.out = self.array(np.zeros((3, 4, 16), np.float32))

    def array(self, values: np.ndarray) -> np.ndarray:
        """A copy of ``values`` in memory of the device."""
        buffer = Buffer("", values.nbytes)
        self.buffers.append(buffer)
        copy: np.ndarray = np.frombuffer(buffer.view, values.dtype).reshape(values.shape)
        copy[:] = values
        return copy

    def close(self) -> None:
        self.lib.greta_close(self.session)
        assert [buffer.damage() for buffer in self.buffers] == [None] * len(self.buffers)

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

    def move(self, name: str, seq: int, start: int, count: int, dense: np.ndarray) -> None:
        """``greta_kv_read`` into or ``greta_kv_load`` from ``dense`` [count][2][16]."""
        rows = self.ffi.cast("void *", dense.ctypes.data)
        status = getattr(self.lib, name)(self.session, 0, seq, start, count, rows, rows)
        assert status == 0, self.words()

    def trim(self, seq: int, length: int) -> None:
        assert self.lib.greta_kv_trim(self.session, seq, length) == 0, self.words()

    def sync(self) -> str:
        return "" if self.lib.greta_sync(self.session) == 0 else self.words()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Device]:
    monkeypatch.setenv("GRETA_HIP_KERNELS", getattr(request, "param", "fast"))
    device = Device()
    yield device
    device.close()


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
        ("kv_start", 1, -1, "kv_start.1. is -1"),
        ("cu_q", 1, 4, "cu_q.1. is 4, expected ascending values that n_tokens and max_q_len allow"),
        ("cu_q", 1, 3, "cu_q.1. is 3"),
        ("cu_q", 1, -1, "cu_q.1. is -1"),
        ("cu_q", 2, 4, "cu_q.2. is 4"),
        ("cu_q", slice(0, 2), [-1, 1], "cu_q.1. is 1"),
        ("seq_ids", 0, 2, "seq_ids.0. is 2, expected 0 .. 1"),
        ("seq_ids", 1, -1, "seq_ids.1. is -1, expected 0 .. 1"),
    ],
)
def test_what_is_wrong_on_the_device_is_said_by_sync_once(
    device: Device, phase: int, name: str, index: Any, value: Any, message: str
) -> None:
    device.write()
    assert device.sync() == ""
    right = device.arrays[name][index].copy()
    device.arrays[name][index] = value
    device.attend(phase)
    assert re.search(message, device.sync())
    device.arrays[name][index] = right
    device.attend(phase)
    assert device.sync() == ""


@pytest.mark.parametrize(
    ("name", "index", "value", "message"),
    [
        ("slots", 0, ROWS, "slots.0. is 40, expected 0 .. 39"),
        ("slots", 2, -1, "slots.2. is -1, expected 0 .. 39"),
        ("block_table", (1, 0), N_PAGES, "row 2 lies on page 6"),
        ("block_table", (0, 1), -1, "row 1[89] lies on page -1"),
        ("kv_len", 1, ROWS + 1, "kv_len.1. is 41"),
        ("seq_ids", 1, -1, "seq_ids.1. is -1"),
        ("cu_q", 1, 3, "cu_q.1. is 3"),
    ],
)
def test_what_is_wrong_is_not_written(device: Device, name: str, index: Any, value: int, message: str) -> None:
    device.arrays[name][index] = value
    device.write()
    assert re.search(message, device.sync())


def test_a_token_behind_all_sequences_is_looked_for_in_none_that_is_not_there(device: Device) -> None:
    device.arrays["cu_q"][2] = 2
    device.write()
    assert device.sync() == ""


@both
@pytest.mark.parametrize("phase", [0, 1])
@pytest.mark.parametrize("start", [0, 17])
def test_pages_of_rows_that_no_query_sees_are_not_looked_at(device: Device, phase: int, start: int) -> None:
    """As an engine leaves them: blocks of later rows have no page yet, those of rows before the first no longer."""
    device.write()
    device.arrays["kv_start"][0] = start
    device.arrays["block_table"][:] = [[-1 if start else 4, 0, -1], [2, 7, 1 << 30]]
    device.attend(phase)
    assert device.sync() == ""


def test_rows_without_a_page_are_not_moved(device: Device) -> None:
    device.arrays["block_table"][0, 2] = -1
    device.write()
    dense = device.array(np.full((2, 2, 16), 7, np.float32))
    for move in ("greta_kv_load", "greta_kv_read"):
        device.move(move, 1, 31, 2, dense)
        assert "row 32 lies on page -1, expected 0 .. 5" in device.sync()
        assert (dense == 7).all()


@pytest.mark.parametrize("page", [-1, N_PAGES])
def test_rows_whose_page_is_gone_are_trimmed_without_it(device: Device, page: int) -> None:
    device.arrays["slots"][:2] = [15, ROWS - 1]
    device.write()
    device.arrays["block_table"][0, 2] = page
    device.arrays["slots"][:2] = [16, 17]
    device.write()
    device.trim(1, 15)
    dense = device.array(np.full((3, 2, 16), 7, np.float32))
    device.move("greta_kv_read", 1, 15, 3, dense)
    assert device.sync() == ""
    assert not dense.any()


@both
@pytest.mark.parametrize("phase", [0, 1])
def test_calls_with_other_lengths_in_the_same_arrays(device: Device, phase: int) -> None:
    """What a captured graph does: the same call again, after the arrays' contents changed. As if it were the first."""
    first = Device()
    for each in (device, first):
        each.k[:] = np.random.default_rng(0).standard_normal(each.k.shape)
        each.write()
    device.attend(phase)
    before = device.out.copy()
    for each in (device, first):
        each.arrays["kv_len"][:] = [3, 20]
        each.arrays["kv_start"][:] = [1, 0]
        each.arrays["seq_ids"][:] = [0, 1]
        each.arrays["block_table"][:] = each.arrays["block_table"][::-1].copy()
        each.attend(phase)
        assert each.sync() == ""
    assert device.out.tobytes() == first.out.tobytes() != before.tobytes()
    first.close()


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
