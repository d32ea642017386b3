"""Watches one call of a model: hooks on its modules, its cache's ``update`` and its attention function, all of which
only look, and hand what they see to a ``Tracer``."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.engine.spec import ModelConfig
from pytest_greta.engine.tracer import Tracer
from pytest_greta.hf.attention import Inner, watched
from pytest_greta.hf.caches import contents, rows_of
from pytest_greta.hf.families import Family, Site
from pytest_greta.hf.plants import Plants
from pytest_greta.pytorch.arrays import to_numpy
from pytest_greta.trace.stages import MODEL

_HEADED = ("q_proj", "k_proj", "v_proj", "q_norm", "k_norm")


@dataclass(frozen=True)
class Called:
    """One attention call as it was made, to make it again with other rows."""

    inner: Inner
    module: Any
    q: Any
    k: Any
    v: Any
    mask: Any
    options: dict[str, Any]
    used: slice
    positions: NDArray[np.int64]


@dataclass
class Watch:
    """``rows``: the sequence rows of the call's tokens, ascending and without gaps. ``quantised``: the cache keeps rows
    in fewer bits. ``kept``: attention calls by layer, where ``keep``; ``calls``: how often each layer's attention was
    called by the model itself."""

    family: Family
    config: ModelConfig
    tracer: Tracer
    rows: NDArray[np.int64]
    plants: Plants
    quantised: bool = False
    keep: bool = False
    kept: dict[int, Called] = field(default_factory=dict)
    calls: Counter[int] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Rows written once the call is through."""
        return int(self.rows[-1]) + 1

    @contextlib.contextmanager
    def over(self, model: Any, cache: Any, implementation: str) -> Iterator[None]:
        """Watching within the block, and not a trace of it left afterwards."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(watched(model, implementation, self))
            stack.enter_context(self._watched_cache(cache))
            body = model.get_submodule(self.family.body)
            layers = body.get_submodule(self.family.layers)
            for stage, site in self.family.outside.items():
                self._hook(stack, body, MODEL, stage, site)
            for layer in self.plants.routed:
                site = self.family.layer["q_proj"]
                linear = layers[layer].get_submodule(site.module)
                stack.callback(linear.register_forward_hook(self.plants.projected(layer, site.part)).remove)
            for layer in sorted(self.tracer.layers - {MODEL}):
                for stage, site in self.family.layer.items():
                    self._hook(stack, layers[layer], layer, stage, site)
            yield

    def after(self, cache: Any) -> None:
        """What the cache holds once the call is through."""
        for layer in sorted(self.tracer.layers - {MODEL}):
            self._read(layer, *contents(cache.layers[layer]), "_after")

    # -- the attention function ------------------------------------------------------------------------------------

    def attend(
        self, inner: Inner, module: Any, q: Any, k: Any, v: Any, mask: Any, options: dict[str, Any]
    ) -> tuple[Any, Any]:
        """q [1, heads, T, dim] over k, v [1, kv_heads, rows, dim] as the cache gave them; out [1, T, heads, dim]."""
        layer = int(module.layer_idx)
        self.calls[layer] += 1
        q = self.plants.turned(layer, q)
        self._tap(layer, "q_rope", self._by_row(q))
        self._read(layer, k, v, "")
        used, positions = rows_of(k.shape[2], self.total)
        if self.keep and layer not in self.kept:
            self.kept[layer] = Called(inner, module, q, k.clone(), v.clone(), mask, options, used, positions)
        q = self.plants.scaled(layer, q)
        k, v, mask = self.plants.attended(layer, k, v, mask, used.stop)
        out, weights = inner(module, q, k, v, mask, **options)
        if self.tracer.wants(layer):
            self._tap_attention(layer, out, lambda again: inner(module, again, k, v, mask, **options)[0], q)
        return out, weights

    def _tap_attention(self, layer: int, out: Any, call: Callable[[Any], Any], q: Any) -> None:
        own = to_numpy(out[0])
        parts = {"": own}
        for part in self.tracer.further:
            parts[part] = to_numpy(call(q.new_zeros(q.shape) if part == "q0" else q)[0])
        differs = np.zeros(len(self.rows), dtype=bool)
        if "repeat" in parts:
            left, right = (x.view(np.uint8).reshape(len(x), -1) for x in (own, parts["repeat"]))
            differs = (left != right).any(axis=1)
        for part, values in parts.items():
            self.tracer.tap(layer, "attn_out", self.rows, values, part, differs)

    # -- the cache -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _watched_cache(self, cache: Any) -> Iterator[None]:
        """The instance's ``update`` in front of its class's, within the block."""
        update = cache.update

        def watched_update(k: Any, v: Any, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
            k = self.plants.turned(layer_idx, k)
            self._tap(layer_idx, "k_rope", self._by_row(k))
            handed = self.plants.written(layer_idx, k, v)
            keys, values = update(*handed, layer_idx, *args, **kwargs)
            if self.tracer.wants(layer_idx):
                used, _ = rows_of(keys.shape[2], self.total)
                new = slice(used.stop - len(self.rows), used.stop)
                # of a cache that rounds them: the rows as they were before, for what it does to them is judged as read
                back = handed if self.quantised else (keys[:, :, new], values[:, :, new])
                for part, stored in zip(("k", "v"), back, strict=True):
                    self.tracer.tap(layer_idx, "kv_write", self.rows, self._by_row(stored), part)
            return keys, values

        cache.update = watched_update
        try:
            yield
        finally:
            del cache.update

    def _read(self, layer: int, keys: Any, values: Any, suffix: str) -> None:
        if not self.tracer.wants(layer):
            return
        used, positions = rows_of(keys.shape[2], self.total)
        for part, stored in (("k", keys), ("v", values)):
            self.tracer.replace(layer, "kv_read", positions, self._by_row(stored[:, :, used]), part + suffix)

    # -- the modules -----------------------------------------------------------------------------------------------

    def _hook(self, stack: contextlib.ExitStack, parent: Any, layer: int, stage: str, site: Site) -> None:
        module = parent.get_submodule(site.module)
        if site.side == "in":

            def before(_module: Any, args: Any, kwargs: Any) -> None:
                self._tap(layer, stage, self._part(args[0] if args else kwargs["hidden_states"], site))

            stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
        else:

            def after(_module: Any, _args: Any, output: Any) -> None:
                self._tap(layer, stage, self._part(output[0] if isinstance(output, tuple) else output, site))

            stack.callback(module.register_forward_hook(after).remove)

    def _part(self, x: Any, site: Site) -> NDArray[Any]:
        return to_numpy(x[0] if site.part is None else x[0].chunk(3, dim=-1)[site.part])

    def _tap(self, layer: int, stage: str, values: NDArray[Any]) -> None:
        if stage in _HEADED:
            heads = self.config.n_heads if stage.startswith("q") else self.config.n_kv_heads
            if stage.endswith("norm") and self.family.heads_first:
                values = values.transpose(1, 0, 2)
            values = values.reshape(len(self.rows), heads, -1)
        self.tracer.tap(layer, stage, self.rows, values)

    @staticmethod
    def _by_row(x: Any) -> NDArray[Any]:
        """[1, heads, T, dim] -> [T, heads, dim]"""
        return to_numpy(x[0].transpose(0, 1))
