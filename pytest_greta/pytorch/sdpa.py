"""The kernels of ``torch.nn.functional.scaled_dot_product_attention``, each called by itself: ``torch:KERNEL@DEVICE``.

The operators are those that ``sdpa_kernel`` makes the public function choose (``tests/pytorch`` compares their bytes),
called directly because they give the lse, and because no other kernel can then have run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_greta.backends.base import PHASES, Unsupported
from pytest_greta.backends.function import DTYPES_OF_ALL, AttentionFunction, FunctionBackend, function_backend
from pytest_greta.pytorch import PREFIX, numerics
from pytest_greta.pytorch.arrays import require
from pytest_greta.texts import text


def backend(name: str) -> FunctionBackend:
    """The backend of one of ``NAMES``. Raises ``BackendMissing`` where torch or the device is not there."""
    kernel, _, device = name.removeprefix(PREFIX).partition("@")
    device = device or "cpu"
    require(device)
    import torch

    attend = _math if kernel == "math" else _flash_cpu if device == "cpu" else _on_gpu(kernel)
    narrow = device != "cpu" and kernel in ("flash", "cudnn")
    made = function_backend(
        attend,
        name=name,
        lse=kernel != "math",
        dtypes=[dtype for dtype in DTYPES_OF_ALL if not (narrow and dtype == "f32")],
        device=device,
    )
    described = replace(
        made.description,
        version=torch.__version__,
        kernels=dict.fromkeys(PHASES, kernel),
        numerics_by_act={
            act: dict.fromkeys(PHASES, numerics.of_kernel(kernel, device, act)) for act in made.description.act_dtypes
        },
    )
    return replace(made, description=described)


def _math(q: Any, k: Any, v: Any, *, scale: float, mask: Any, window: int) -> Any:
    import torch

    seen, causal = _causal(q, k, mask, window)
    call = torch.ops.aten._scaled_dot_product_attention_math
    out, _ = call(*_heads_first(q, k, v), seen, 0.0, causal, None, scale=scale, enable_gqa=True)
    return out[0].transpose(0, 1)


def _flash_cpu(q: Any, k: Any, v: Any, *, scale: float, mask: Any, window: int) -> Any:
    import torch

    seen, causal = _causal(q, k, mask, window)
    call = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    out, lse = call(*_heads_first(q, k, v), 0.0, causal, attn_mask=seen, scale=scale)
    return out[0].transpose(0, 1), lse[0].transpose(0, 1)


def _on_gpu(kernel: str) -> AttentionFunction:
    """The fused kernels of a GPU. They take no mask here: one query over all rows, or as many queries as rows."""

    def attend(q: Any, k: Any, v: Any, *, scale: float, mask: Any) -> Any:
        import torch

        seen, causal = _causal(q, k, mask, 0)
        if seen is not None:
            raise Unsupported("q_len", text("torch.square", kernel=kernel))
        group, (T, heads) = q.shape[1] // k.shape[1], q.shape[:2]
        given = _heads_first(q, *(x.repeat_interleave(group, dim=1) for x in (k, v)))
        aten = torch.ops.aten
        if kernel == "flash":
            out, lse = aten._scaled_dot_product_flash_attention(*given, 0.0, causal, False, scale=scale)[:2]
        elif kernel == "efficient":
            out, lse = aten._scaled_dot_product_efficient_attention(*given, None, True, 0.0, causal, scale=scale)[:2]
        else:
            more = (None, True, 0.0, causal, False)
            out, lse = aten._scaled_dot_product_cudnn_attention(*given, *more, scale=scale)[:2]
        return out[0].transpose(0, 1), lse[0].reshape(heads, -1)[:, :T].transpose(0, 1).float()  # padded to 32 rows

    return attend


def _heads_first(*tensors: Any) -> tuple[Any, ...]:
    """[T, heads, d] -> [1, heads, T, d]"""
    return tuple(x.transpose(0, 1)[None] for x in tensors)


def _causal(q: Any, k: Any, mask: Any, window: int) -> tuple[Any, bool]:
    """(what is added to the scores or None, is_causal) as the public function makes them: no mask for one query over
    all rows, ``is_causal`` for as many queries as rows. With fewer its triangle would hang from the wrong corner."""
    T, rows = len(q), len(k)
    if (window == 0 or window >= rows) and T in (1, rows):
        return None, T > 1
    return q.new_zeros(mask.shape).masked_fill(~mask, float("-inf")), False
