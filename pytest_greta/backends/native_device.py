"""Sessions over device memory. A tensor that lies there is handed on as it is, by DLPack; a NumPy array is copied
there, and what the library wrote is copied home.

PyTorch allocates and copies: one interface for CUDA and ROCm, both of which it calls "cuda".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_greta.backends.base import Array, BackendMissing, Batch, SessionConfig
from pytest_greta.backends.native_library import Library
from pytest_greta.backends.native_session import UNWRITTEN, Held, NativeSession
from pytest_greta.dtypes import DType
from pytest_greta.texts import text

TORCH_NAMES = {
    "f32": "float32",
    "bf16": "bfloat16",
    "f16": "float16",
    "fp8_e4m3fn": "float8_e4m3fn",
    "fp8_e4m3fnuz": "float8_e4m3fnuz",
}


@dataclass(frozen=True)
class Space:
    """The memory of one device. ``work``: the stream on which copies to it are queued and the library's calls run;
    ``back``: the one of the copies home. None where the emulation's device is this processor."""

    torch: Any
    device: Any
    work: Any = None
    back: Any = None

    @classmethod
    def of(cls, kind: str, index: int, stream: int = 0) -> Space:
        """``kind`` as the library describes itself; ``stream``: a handle of the caller's, 0 for one of our own.

        Raises ``BackendMissing`` without PyTorch, or where that sees no such device.
        """
        try:
            import torch
        except ImportError as error:
            mend = "pip install 'pytest-greta[torch]'"
            raise BackendMissing("extra", text("native.no_torch"), mend) from error
        if kind.startswith("emulated"):
            return cls(torch, torch.device("cpu"))
        if index >= torch.cuda.device_count():
            said, mend_text = text("native.torch_blind", device=index), text("native.torch_blind_mend")
            raise BackendMissing("device", said, mend_text)
        device = torch.device("cuda", index)
        work = torch.cuda.ExternalStream(stream, device) if stream else torch.cuda.Stream(device)
        return cls(torch, device, work, torch.cuda.Stream(device))

    @property
    def stream(self) -> int:
        """The handle of ``work``: never PyTorch's default stream, whose handle of 0 means something else to the ABI."""
        return 0 if self.work is None else int(self.work.cuda_stream)

    def put(self, array: Array) -> Any:
        """The bytes of a NumPy array, queued on ``work``."""
        source = self.torch.from_numpy(np.array(array).view(np.uint8).reshape(-1))  # a copy: the caller's may change
        if self.work is None:
            return source
        with self.torch.cuda.stream(self.work):
            return source.to(self.device)

    def home(self, tensor: Any, array: Array) -> None:
        """Bytes of the device into a NumPy array. The library has been synchronised: nothing is waited for but this."""
        target = array.view(np.uint8).reshape(-1)
        if self.back is None:
            target[:] = tensor.numpy()
            return
        with self.torch.cuda.stream(self.back):
            target[:] = tensor.cpu().numpy()

    def follow(self) -> None:
        """What the caller has queued for its tensors comes before the library's calls."""
        if self.work is not None:
            self.work.wait_stream(self.torch.cuda.current_stream(self.device))


class DeviceSession(NativeSession):
    """``NativeSession`` with its arrays in the device's memory."""

    def __init__(self, library: Library, handle: Any, config: SessionConfig, space: Space) -> None:
        super().__init__(library, handle, config)
        self._space = space
        self._copies: dict[int, Any] = {}
        """What lies on the device in place of a NumPy array, by its address."""
        self._kept: list[Any] = []
        """Everything on the device that the call under way points at."""

    def _call(self, name: str, *args: Any) -> None:
        self._space.follow()
        super()._call(name, *args)

    def _address(self, array: Array) -> int:
        copy = self._copies[array.ctypes.data] = self._space.put(array)
        self._kept.append(copy)
        return int(copy.data_ptr())

    def _home(self, *arrays: Array) -> None:
        for array in arrays:
            if isinstance(array, np.ndarray):
                self._space.home(self._copies[array.ctypes.data], array)
        self._copies.clear()
        self._kept.clear()

    def _tensor(
        self, name: str, array: Any, shape: tuple[int, ...], dtype: DType, held: Held, writable: bool = False
    ) -> Any:
        """As in host memory; or a view of a tensor of the device, with its own strides."""
        if isinstance(array, np.ndarray):
            return super()._tensor(name, array, shape, dtype, held, writable)
        own = self._view(name, array, shape, dtype)
        self._kept.append(own)
        tensor = self._ffi.new("greta_tensor *")
        tensor.data = self._ffi.cast("void *", own.data_ptr())
        tensor.dtype = dtype.abi
        tensor.token_stride, tensor.head_stride = own.stride(0), own.stride(1)
        held.alive.append(tensor)
        return tensor

    def _view(self, name: str, array: Any, shape: tuple[int, ...], dtype: DType) -> Any:
        torch = self._space.torch
        if not isinstance(array, torch.Tensor):
            if not hasattr(array, "__dlpack__"):
                raise ValueError(f"{name} is a {type(array).__name__}, expected a NumPy array or a DLPack tensor")
            array = torch.from_dlpack(array)
        if array.device != self._space.device:
            raise ValueError(f"{name} lies on {array.device}, expected {self._space.device}")
        if array.dtype != getattr(torch, TORCH_NAMES[dtype.name]):
            raise ValueError(f"{name} has dtype {array.dtype}, expected {TORCH_NAMES[dtype.name]}")
        if tuple(array.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(array.shape)}, expected {shape}")
        if array.stride(2) != 1 and shape[2] > 1:
            raise ValueError(f"the last dimension of {name} is not contiguous")
        return array

    def _results(self, batch: Batch, q: Any) -> tuple[Any, Any]:
        if isinstance(q, np.ndarray):
            return super()._results(batch, q)
        torch, c = self._space.torch, self.config
        act = getattr(torch, TORCH_NAMES[self._act.name])
        shape = (batch.n_tokens, c.n_heads)
        out = torch.full((*shape, c.head_dim_v), torch.nan, dtype=act, device=self._space.device)
        lse = torch.full((*shape, 1), int(UNWRITTEN), dtype=torch.int32, device=self._space.device)
        return out, lse.view(torch.float32)

    def _unwritten(self, lse: Any) -> bool:
        if isinstance(lse, np.ndarray):
            return super()._unwritten(lse)
        return bool((lse.view(self._space.torch.int32) == int(UNWRITTEN)).all())
