"""The attention functions that are registered with transformers, watched while a path runs."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

from pytest_greta.backends.base import BackendError
from pytest_greta.texts import text

FLEX = "flex_attention"
IMPLEMENTATIONS = ("eager", "sdpa", FLEX)
"""Those that can be watched."""
NEEDED: Mapping[str, str] = {
    "flash_attention_2": "flash-attn + GPU",
    "flash_attention_3": "flash-attn-3 + GPU",
}
"""What the others would want, packages by their names."""
_PREFIX = "greta_"
_COMPILATIONS = 2**16
"""Of one function in a process: as many as it takes."""

Inner = Callable[..., tuple[Any, Any]]


class Watching(Protocol):
    def attend(
        self, inner: Inner, module: Any, q: Any, k: Any, v: Any, mask: Any, options: dict[str, Any]
    ) -> tuple[Any, Any]: ...


_WATCHING: ContextVar[Watching | None] = ContextVar("pytest_greta_hf_watching", default=None)


@contextlib.contextmanager
def watched(model: Any, implementation: str, watch: Watching) -> Iterator[None]:
    """The model's attention goes through ``watch`` within the block; afterwards the model is as it was."""
    _register()
    before = model.config._attn_implementation
    model.set_attn_implementation(_PREFIX + implementation)
    token = _WATCHING.set(watch)
    try:
        yield
    finally:
        _WATCHING.reset(token)
        model.set_attn_implementation(before)


@contextlib.contextmanager
def compiled(implementation: str) -> Iterator[None]:
    """Within the block flex attention is compiled for each mask and each shape, and never anything but compiled.

    Past a few compilations torch would go on with a Python form of the function, another kernel, and only warn. What it
    compiles for many shapes at once does not always build (torch 2.13: ``cur_kvSplitSize0`` is not declared). Raises
    ``BackendError`` where torch cannot compile it.
    """
    if implementation != FLEX:
        yield
        return
    import torch
    from torch._dynamo.exc import FailOnRecompileLimitHit
    from torch._inductor.exc import InductorError

    limits = dict.fromkeys(("recompile_limit", "accumulated_recompile_limit"), _COMPILATIONS)
    patched = torch._dynamo.config.patch(automatic_dynamic_shapes=False, fail_on_recompile_limit_hit=True, **limits)
    try:
        with patched, warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch's compiler, and of how transformers calls it
            yield
    except (InductorError, FailOnRecompileLimitHit) as error:
        first = str(error).strip().splitlines()[0][:200]
        raise BackendError("GRETA_INTERNAL", text("hf.not_compiled", name=FLEX, error=first)) from error


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask, flex_attention_mask, sdpa_mask

    masks = {"eager": eager_mask, "sdpa": sdpa_mask, FLEX: flex_attention_mask}
    for name in IMPLEMENTATIONS:
        AttentionInterface.register(_PREFIX + name, _function(name))
        AttentionMaskInterface.register(_PREFIX + name, masks[name])


def _function(name: str) -> Inner:
    def attend(module: Any, q: Any, k: Any, v: Any, mask: Any, **options: Any) -> tuple[Any, Any]:
        watch, inner = _WATCHING.get(), _inner(name, module)
        if watch is None:
            return inner(module, q, k, v, mask, **options)
        return watch.attend(inner, module, q, k, v, mask, options)

    return attend


def _inner(name: str, module: Any) -> Inner:
    """What transformers itself would call: ``eager`` is each architecture's own function."""
    if name == "eager":
        own: Inner = sys.modules[type(module).__module__].eager_attention_forward
        return own
    if name == FLEX:
        from transformers.integrations.flex_attention import flex_attention_forward

        flex: Inner = flex_attention_forward
        return flex
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    sdpa: Inner = sdpa_attention_forward
    return sdpa


def without_last(mask: Any, rows: int) -> Any:
    """A mask that ``flex_attention_mask`` made, over ``rows`` rows of its keys: those behind are not seen."""
    from torch.nn.attention.flex_attention import create_block_mask

    seen = mask.mask_mod

    def fewer(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return seen(batch, head, query, key) & (key < rows)

    queries, keys = mask.seq_lengths
    return create_block_mask(fewer, mask.shape[0], None, queries, keys, device="cpu")
