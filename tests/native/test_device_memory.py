"""Sessions over device memory: the emulation's device is this processor, so that PyTorch's CPU tensors lie there.

No GPU has run this: what is shown is that the library gets a tensor's own address and strides, or that of a copy, never
that of the caller's NumPy array, and that what it wrote comes home.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attention_cases import backend, batch, config, randn
from hip_cases import emulated

from pytest_greta.backends.base import AttentionSession, BackendMissing, LayerConfig, SessionConfig, Unsupported
from pytest_greta.backends.native import load
from pytest_greta.backends.native_device import TORCH_NAMES, Space
from pytest_greta.dtypes import DTYPES
from tests.support import fake_device

pytestmark = pytest.mark.transformers

ROPE = {"layers": (LayerConfig(),)}


@pytest.fixture(params=["f32", "bf16", "f16"])
def both(request: pytest.FixtureRequest) -> Iterator[tuple[str, AttentionSession, AttentionSession]]:
    """The type, and a session over each memory."""
    given = config(act_dtype=request.param, kv_dtype=request.param, **ROPE)
    host, device = emulated().open(given), emulated().open(replace(given, memory="device"))
    yield request.param, host, device
    host.close()
    device.close()


def tensor(array: np.ndarray, name: str) -> Any:
    """A tensor of PyTorch with the array's bytes, in memory of its own."""
    return torch.from_numpy(np.array(array).view(np.uint8)).view(getattr(torch, TORCH_NAMES[name]))


def same(found: Any, expected: np.ndarray, name: str) -> bool:
    return bool((found.contiguous().view(torch.uint8).numpy() == expected.view(np.uint8)).all())


def rows(name: str, n: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return randn(rng, (n, 4, 16), name), randn(rng, (n, 2, 16), name), randn(rng, (n, 2, 16), name)


def test_numpy_arrays_go_there_and_come_home(both: Any) -> None:
    name, host, device = both
    found = []
    for session in (host, device):
        b, (q, k, v) = batch([12, 8], [12, 8]), rows(name)
        session.rope(0, "prefill", b, q, k)
        session.kv_write(0, b, k, v)
        out, lse = session.attend(0, "prefill", b, q)
        stored = session.kv_read(0, 1, 0, 8)
        session.kv_load(0, 0, 0, *stored)
        found.append([q, k, out, lse, *stored, *session.kv_read(0, 0, 0, 8)])
    for ours, theirs in zip(*found, strict=True):
        assert isinstance(theirs, np.ndarray)
        assert ours.tobytes() == theirs.tobytes()


def test_no_address_of_the_host_is_handed_on(both: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, device = both
    put, buffer = Space.put, device._buffer
    copies: list[tuple[np.ndarray, Any]] = []  # kept, so that no address is used again
    given: list[int] = []

    def watched(space: Space, array: np.ndarray) -> Any:
        copies.append((array, put(space, array)))
        return copies[-1][1]

    def handed(array: np.ndarray) -> Any:
        pointer = buffer(array)
        given.append(int(device._ffi.cast("intptr_t", pointer)))
        return pointer

    monkeypatch.setattr(Space, "put", watched)
    monkeypatch.setattr(device, "_buffer", handed)
    b, (q, k, v) = batch([20], [20]), rows(name)
    device.kv_write(0, b, k, v)
    device.attend(0, "prefill", b, q)
    device.kv_read(0, 0, 0, 20)
    assert len(given) == 7  # k, v; q, out, lse; k, v
    assert set(given) <= {copy.data_ptr() for _, copy in copies}
    assert not set(given) & {array.ctypes.data for array, _ in copies}
    assert {id(array) for array in (q, k, v, b.cu_q, b.kv_len, b.slots)} <= {id(array) for array, _ in copies}


def test_tensors_are_handed_on_as_they_are(both: Any) -> None:
    """rope works in place: the tensor itself has turned, so nothing was copied."""
    name, host, device = both
    b, (q, k, v) = batch([20], [20]), rows(name)
    mine, keys = tensor(q, name), tensor(k, name)
    host.rope(0, "prefill", b, q, k)
    device.rope(0, "prefill", b, mine, keys)
    assert same(mine, q, name)
    assert same(keys, k, name)
    host.kv_write(0, b, k, v)
    device.kv_write(0, b, keys, tensor(v, name))
    expected, lse = host.attend(0, "prefill", b, q)
    out, own_lse = device.attend(0, "prefill", b, mine)
    assert isinstance(out, torch.Tensor)
    assert same(out, expected, name)
    assert same(own_lse, lse, "f32")


def test_views_keep_their_strides(both: Any) -> None:
    """q, k and v of one fused projection, as engines have them."""
    name, host, device = both
    b, (q, k, v) = batch([20], [20]), rows(name)
    fused = torch.cat([tensor(part, name) for part in (q, k, v)], dim=1)
    host.kv_write(0, b, k, v)
    device.kv_write(0, b, fused[:, 4:6], fused[:, 6:])
    out, _ = device.attend(0, "prefill", b, fused[:, :4])
    assert same(out, host.attend(0, "prefill", b, q)[0], name)


class Exporter:
    """Another framework's tensor: nothing but the protocol."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor

    def __dlpack__(self, **how: Any) -> Any:
        return self._tensor.__dlpack__(**how)

    def __dlpack_device__(self) -> Any:
        return self._tensor.__dlpack_device__()


def test_any_exporter_of_dlpack_will_do(both: Any) -> None:
    name, host, device = both
    b, (q, k, _) = batch([20], [20]), rows(name)
    mine, keys = tensor(q, name), tensor(k, name)
    host.rope(0, "prefill", b, q, k)
    device.rope(0, "prefill", b, Exporter(mine), Exporter(keys))
    assert same(mine, q, name)


def test_one_array_in_two_roles(both: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """positions and slots are often one array: both copies must be alive on the device until the call is over."""
    put = Space.put

    def spoiled_when_dropped(space: Space, array: np.ndarray) -> Any:
        copy = put(space, array)
        held = copy[:]
        weakref.finalize(held, copy.fill_, 0x7F)
        return held

    monkeypatch.setattr(Space, "put", spoiled_when_dropped)
    name, host, device = both
    b, (q, k, v) = batch([20], [20]), rows(name)
    b = replace(b, slots=b.positions)
    turned = [np.array(q), np.array(q)]
    for session, mine in zip((host, device), turned, strict=True):
        session.rope(0, "prefill", b, mine, np.array(k))
        session.kv_write(0, b, k, v)
    assert turned[0].tobytes() == turned[1].tobytes()
    assert host.kv_read(0, 0, 0, 20)[0].tobytes() == device.kv_read(0, 0, 0, 20)[0].tobytes()
    assert host.attend(0, "prefill", b, q)[0].tobytes() == device.attend(0, "prefill", b, q)[0].tobytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda q: q.double(), "q has dtype torch.float64, expected float32"),
        (lambda q: q[:, :3], r"q has shape \(20, 3, 16\), expected \(20, 4, 16\)"),
        (lambda q: q.transpose(0, 2).contiguous().transpose(0, 2), "the last dimension of q is not contiguous"),
        (lambda q: q.to("meta"), "q lies on meta, expected cpu"),
        (lambda q: q.tolist(), "q is a list, expected a NumPy array or a DLPack tensor"),
    ],
)
def test_a_tensor_that_does_not_fit(change: Any, said: str) -> None:
    b, (q, k, _) = batch([20], [20]), rows("f32")
    with emulated().open(config(memory="device", **ROPE)) as session, pytest.raises(ValueError, match=said):
        session.rope(0, "prefill", b, change(tensor(q, "f32")), k)


def test_a_row_that_is_left_unwritten_shows(both: Any) -> None:
    name, _, device = both
    out, lse = device._results(batch([20], [20]), tensor(rows(name)[0], name))
    assert out.isnan().all()
    assert device._unwritten(lse)


def test_a_library_without_device_memory_says_so() -> None:
    with pytest.raises(Unsupported, match="does not declare device memory") as caught:
        backend().open(config(memory="device"))
    assert caught.value.feature == "device_memory"


def test_a_gpu_that_pytorch_does_not_see_is_a_missing_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(BackendMissing, match="PyTorch sees no device 1, in whose memory") as caught:
        Space.of("hip gfx942", 1)
    assert caught.value.kind == "device"


def test_without_pytorch_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendMissing, match=r"pip install 'pytest-greta\[torch\]'") as caught:
        emulated().open(config(memory="device"))
    assert caught.value.kind == "extra"


def test_every_type_has_a_name_in_pytorch() -> None:
    assert set(TORCH_NAMES) == set(DTYPES)
    assert all(hasattr(torch, name) for name in TORCH_NAMES.values())


def test_a_library_that_takes_nothing_else_is_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As most engines' kernels are: the harness brings its arrays to the device and the traced rows home."""
    import pytest_greta as greta

    path = fake_device.build(tmp_path)
    monkeypatch.setenv("FAKE_REAL", str(emulated().path))
    monkeypatch.setenv("FAKE_MEMORY", "device")
    assert load(path).describe().memory == ("device",)
    ids = greta.load_model("synthetic").tokenize("Hello there")
    run = greta.probe("synthetic", ids, mode="kv_aligned", backend={"library": str(path)}, dtype="bf16", layers=[0, 5])
    assert run.verdict.status == "PASS", run.verdict
    assert run.verdict.evidence.breaches == ()


def test_a_stream_of_the_callers_reaches_the_library() -> None:
    from pytest_greta.backends.native import declarations
    from pytest_greta.backends.native_config import greta_config

    given: SessionConfig = replace(config(), memory="device", stream=0x1234)
    c = greta_config(declarations(), given, [])
    assert (c.memory, int(declarations().cast("intptr_t", c.stream))) == (1, 0x1234)
