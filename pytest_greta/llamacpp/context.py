"""A GGUF that llama.cpp has loaded, and a context of it: one sequence with its cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import BackendError
from pytest_greta.engine.store import ModelError
from pytest_greta.llamacpp.library import FLASH, TYPES, Library, library
from pytest_greta.texts import text

PADDING = 256
"""Rows that a cache's size is a multiple of."""


@lru_cache(maxsize=1)
def loaded(path: str, name: str) -> Any:
    """The file in llama.cpp, on the CPU. Raises ``ModelError`` with its own words where it will not have it."""
    llama = library(name)
    params = llama.lib.llama_model_default_params()
    params.n_gpu_layers = 0
    model = llama.lib.llama_model_load_from_file(path.encode(), params)
    if model == llama.ffi.NULL:
        message = text("llamacpp.load", path=path, error=llama.last_words())
        raise ModelError("foreign", message, text("mend.damaged"))
    return llama.ffi.gc(model, llama.lib.llama_model_free)


@dataclass(frozen=True)
class Wanted:
    """What a context is made for. ``vocab``: the model's. ``rows``: of its cache, at least. ``others``: further fields
    of ``llama_context_params`` by name."""

    vocab: int
    rows: int
    kv_dtype: str
    attention: str
    threads: int
    others: Mapping[str, Any] = field(default_factory=dict)


class Context:
    """One sequence over a cache of its own. ``watch``: called as llama.cpp's ``cb_eval``, with (tensor, ask)."""

    def __init__(self, llama: Library, model: Any, wanted: Wanted, watch: Callable[[Any, bool], bool]) -> None:
        self.llama, self.ffi, self.lib, self.wanted = llama, llama.ffi, llama.lib, wanted
        self._error: BaseException | None = None

        @self.ffi.callback("bool(struct ggml_tensor *, bool, void *)", error=False)  # type: ignore[untyped-decorator]
        def called(tensor: Any, ask: bool, _data: Any) -> bool:
            try:
                return watch(tensor, ask)
            except BaseException as error:  # nothing of Python's may pass through C; decode raises it again
                self._error = error
                return False

        params = self.lib.llama_context_default_params()
        params.n_ctx = params.n_batch = -(-wanted.rows // PADDING) * PADDING
        params.n_ubatch = min(params.n_ubatch, params.n_batch)
        params.n_outputs_max = params.n_batch
        params.n_threads = params.n_threads_batch = wanted.threads or 1
        params.type_k = params.type_v = TYPES[wanted.kv_dtype]
        params.flash_attn_type = FLASH[wanted.attention]
        params.offload_kqv = params.op_offload = False
        params.cb_eval = called
        for name, value in wanted.others.items():
            setattr(params, name, value)
        self._model, self._watch, self._called = model, watch, called  # llama.cpp holds on to the first and the last
        pointer = self.lib.llama_init_from_model(model, params)
        if pointer == self.ffi.NULL:
            raise BackendError("GRETA_INTERNAL", text("llamacpp.context", error=llama.last_words()))
        self._pointer = self.ffi.gc(pointer, self.lib.llama_free)

    def decode(self, tokens: Sequence[int], first: int, wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Compute ``tokens`` at positions first, first + 1, ...; the logits of those ``wanted``, [wanted, vocab]."""
        batch = self.lib.llama_batch_init(len(tokens), 0, 1)
        try:
            batch.n_tokens = len(tokens)
            for i, token in enumerate(tokens):
                batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, first + i, 1
                batch.seq_id[i][0], batch.logits[i] = 0, bool(wanted[i])
            status = self.lib.llama_decode(self._pointer, batch)
        finally:
            self.lib.llama_batch_free(batch)
        if self._error is not None:
            raise self._error
        if status != 0:
            raise BackendError("GRETA_INTERNAL", text("llamacpp.decode", status=status, error=self.llama.last_words()))
        return np.stack([self._logits(int(i)) for i in np.flatnonzero(wanted)])

    def _logits(self, i: int) -> NDArray[np.float32]:
        row = self.lib.llama_get_logits_ith(self._pointer, i)
        logits: NDArray[np.float32] = np.frombuffer(self.ffi.buffer(row, 4 * self.wanted.vocab), dtype="<f4").copy()
        return logits

    def again(self, **others: Any) -> Context:
        """A further context of the same model over an empty cache, with other fields of ``llama_context_params``."""
        wanted = replace(self.wanted, others={**self.wanted.others, **others})
        return Context(self.llama, self._model, wanted, self._watch)

    def state(self) -> bytes:
        """The sequence's rows as llama.cpp saves them: see ``state.parse``."""
        size = self.lib.llama_state_seq_get_size(self._pointer, 0)
        raw = self.ffi.new("uint8_t[]", size)
        written = self.lib.llama_state_seq_get_data(self._pointer, raw, size, 0)
        return bytes(self.ffi.buffer(raw, written))

    def set_state(self, raw: bytes) -> None:
        """In place of the sequence's rows. Raises ``BackendError`` where llama.cpp will not have it."""
        if self.lib.llama_state_seq_set_data(self._pointer, self.ffi.from_buffer("uint8_t[]", raw), len(raw), 0) == 0:
            raise BackendError("GRETA_INTERNAL", text("llamacpp.set_state", error=self.llama.last_words()))

    def shift(self, first: int, last: int, delta: int) -> None:
        """Rows of the positions first .. last - 1 are of positions ``delta`` further from now on."""
        self.lib.llama_memory_seq_add(self.lib.llama_get_memory(self._pointer), 0, first, last, delta)
