"""Tensors of torch as NumPy arrays of the same bytes, and back, by DLPack: nothing is copied on a CPU.

NumPy has no bfloat16 of its own, and its DLPack none of ``ml_dtypes``': those bytes travel as int16.
"""

from __future__ import annotations

import warnings
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import BackendMissing
from pytest_greta.texts import text

DEVICES = ("cpu", "cuda", "rocm")
"""By the names that users type; torch calls both of the last two ``cuda``."""
EXTRA = "pip install 'pytest-greta[torch]'"


def torch_type(name: str) -> Any:
    """The type of torch by our name."""
    import torch

    return {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[name]


def to_numpy(tensor: Any) -> NDArray[Any]:
    """A copy."""
    return np.array(as_numpy(tensor.contiguous()))


def to_torch(array: NDArray[Any]) -> Any:
    """A copy, on the CPU."""
    return as_torch(np.array(array, order="C"))


def as_numpy(tensor: Any) -> NDArray[Any]:
    """The same memory where the tensor is on the CPU."""
    import torch

    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return np.from_dlpack(tensor.view(torch.int16)).view(ml_dtypes.bfloat16)
    return np.from_dlpack(tensor)


def as_torch(array: NDArray[Any]) -> Any:
    """The same memory, which must be writable."""
    import torch

    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_dlpack(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_dlpack(array)


class TorchTensors:
    """Implements ``function.Tensors`` on one device. Raises ``BackendMissing`` where torch or the device is absent."""

    def __init__(self, device: str) -> None:
        require(device)
        self.kind = text("torch.tensor", device=device)
        self._device = "cpu" if device == "cpu" else "cuda"

    def give(self, array: NDArray[Any]) -> Any:
        return as_torch(array).to(self._device)

    def take(self, value: Any) -> NDArray[Any] | None:
        import torch

        if not isinstance(value, torch.Tensor) or value.device.type != self._device:
            return None
        try:
            return as_numpy(value)
        except (TypeError, RuntimeError, BufferError):  # sparse, nested or quantised: no array of numbers
            return None


def require(device: str) -> None:
    """Raises ``BackendMissing`` where torch cannot be imported, or has no such device."""
    if device not in DEVICES:
        raise BackendMissing(
            "device", text("torch.device", device=device), text("mend.one_of", names=", ".join(DEVICES))
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
    except ImportError as error:
        raise BackendMissing("extra", text("torch.extra", error=error), EXTRA) from None
    if device == "cpu":
        return
    build = "rocm" if torch.version.hip else "cuda" if torch.version.cuda else "cpu"
    if build != device:
        what = text("torch.build", version=torch.__version__, build=build, device=device)
        raise BackendMissing("device", what, text("torch.build_mend", device=device))
    if not torch.cuda.is_available():
        what = text("torch.no_gpu", version=torch.__version__, device=device)
        raise BackendMissing("device", what, "")
