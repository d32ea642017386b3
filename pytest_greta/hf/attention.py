"""The attention functions that are registered with transformers: ``eager`` and ``sdpa``, watched while a path runs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

IMPLEMENTATIONS = ("eager", "sdpa")
"""Those that can be watched."""
NEEDED: Mapping[str, str] = {
    "flash_attention_2": "flash-attn + GPU",
    "flash_attention_3": "flash-attn-3 + GPU",
    "flex_attention": "torch.compile (g++)",
}
"""What the others would want, packages by their names."""
_PREFIX = "greta_"

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


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask, sdpa_mask

    masks = {"eager": eager_mask, "sdpa": sdpa_mask}
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
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    sdpa: Inner = sdpa_attention_forward
    return sdpa
