"""The part of llama.cpp's C interface that is used here, in the shared object of the package xllamacpp.

That package exports the whole of ``llama.h`` and ``ggml.h`` from its one object and has wheels, where llama-cpp-python
has sources alone. Its structs change between releases and are passed by value, so that only the release that they were
read from is spoken to (``RELEASES``), and only where it still fills them with the defaults that it is known by.
Sources: ``include/llama.h``, ``ggml/include/ggml.h`` of llama.cpp b11549.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cffi import FFI

from pytest_greta import dying
from pytest_greta.engine.store import ModelMissing, printable
from pytest_greta.texts import text

PACKAGE = "xllamacpp"
RELEASES = ("2026.10.11549",)
"""Of the package; the last part is llama.cpp's own build number."""
REQUIREMENT = f"{PACKAGE}=={RELEASES[-1]}"
"""What the extra installs: ``pyproject.toml`` says it once more, and a test holds the two together."""
EXTRA = "pip install 'pytest-greta[llamacpp]'"

F32, F16 = 0, 1
"""``GGML_TYPE_F32``, ``GGML_TYPE_F16``."""
TYPES = {"f32": F32, "f16": F16}
FLASH = {"plain": 0, "flash": 1}
"""``LLAMA_FLASH_ATTN_TYPE_DISABLED``, ``_ENABLED``."""
UBATCH = 512
"""Tokens that are computed at a time, by default: a longer prompt goes in pieces."""

_DECLARATIONS = """
struct llama_model_params {
    void *devices, *tensor_buft_overrides; int32_t n_gpu_layers; int split_mode, load_mode, lazy_mode;
    int32_t main_gpu; const float *tensor_split; void *progress_callback, *progress_data, *kv_overrides;
    bool vocab_only, check_tensors, use_extra_bufts, no_host, no_alloc, load_mtp;
};
struct ggml_tensor {
    int type; void *buffer; int64_t ne[4]; size_t nb[4]; int op; int32_t op_params[16]; int32_t flags;
    struct ggml_tensor *src[10], *view_src; size_t view_offs; void *data; char name[64]; void *extra; char padding[8];
};
struct llama_context_params {
    uint32_t n_ctx, n_batch, n_ubatch, n_seq_max, n_rs_seq, n_outputs_max, n_outputs_max_per_seq;
    int32_t n_threads, n_threads_batch;
    int ctx_type, rope_scaling_type, pooling_type, attention_type, flash_attn_type;
    float rope_freq_base, rope_freq_scale, yarn_ext_factor, yarn_attn_factor, yarn_beta_fast, yarn_beta_slow;
    uint32_t yarn_orig_ctx; float defrag_thold;
    bool (*cb_eval)(struct ggml_tensor *tensor, bool ask, void *data); void *cb_eval_data;
    int type_k, type_v; size_t moe_cache_size; void *abort_callback, *abort_data;
    bool embeddings, offload_kqv, no_perf, op_offload, swa_full, kv_unified;
    void *samplers; size_t n_samplers; void *ctx_other;
};
struct llama_batch {
    int32_t n_tokens; int32_t *token; float *embd; int32_t *pos, *n_seq_id, **seq_id; int8_t *logits;
};
struct llama_model_params llama_model_default_params(void);
struct llama_context_params llama_context_default_params(void);
void llama_backend_init(void);
void *ggml_set_abort_callback(void (*callback)(const char *message));
void llama_log_set(void (*callback)(int level, const char *text, void *data), void *data);
void *llama_model_load_from_file(const char *path, struct llama_model_params params);
void llama_model_free(void *model);
void *llama_init_from_model(void *model, struct llama_context_params params);
void llama_free(void *context);
struct llama_batch llama_batch_init(int32_t n_tokens, int32_t embd, int32_t n_seq_max);
void llama_batch_free(struct llama_batch batch);
int32_t llama_decode(void *context, struct llama_batch batch);
float *llama_get_logits_ith(void *context, int32_t i);
void *llama_get_memory(void *context);
void llama_memory_seq_add(void *memory, int32_t seq, int32_t first, int32_t last, int32_t delta);
size_t llama_state_seq_get_size(void *context, int32_t seq);
size_t llama_state_seq_get_data(void *context, uint8_t *to, size_t size, int32_t seq);
size_t llama_state_seq_set_data(void *context, const uint8_t *from, size_t size, int32_t seq);
const char *ggml_op_desc(const struct ggml_tensor *tensor);
size_t ggml_tensor_overhead(void);
"""
_OBJECT = 32
"""``GGML_OBJECT_SIZE``, which ``ggml_tensor_overhead`` adds to a tensor's own size."""
_MODEL: dict[str, float | None] = {
    "devices": None, "tensor_buft_overrides": None, "n_gpu_layers": -1, "split_mode": 1, "load_mode": -1,
    "lazy_mode": 1, "main_gpu": 0, "tensor_split": None, "progress_callback": None, "kv_overrides": None,
    "vocab_only": 0, "check_tensors": 0, "use_extra_bufts": 1, "no_host": 0, "no_alloc": 0, "load_mtp": 0,
}  # fmt: skip
_CONTEXT: dict[str, float | None] = {
    "n_ctx": 512, "n_batch": 2048, "n_ubatch": UBATCH, "n_seq_max": 1, "n_outputs_max_per_seq": 1,
    "rope_scaling_type": -1, "pooling_type": -1, "attention_type": -1, "flash_attn_type": -1,
    "rope_freq_base": 0.0, "yarn_ext_factor": -1.0, "yarn_beta_slow": -1.0, "defrag_thold": -1.0,
    "type_k": F16, "type_v": F16, "embeddings": 0, "offload_kqv": 1, "no_perf": 1, "n_samplers": 0, "ctx_other": None,
}  # fmt: skip
"""From the first field to the last, None for a pointer to nothing: a struct laid out otherwise does not show all of
them."""


@dataclass(frozen=True)
class Library:
    """``lib``: the functions of the object ``path``. ``said``: the latest lines of its log, for messages. ``kept``:
    what must outlive it."""

    ffi: Any
    lib: Any
    path: str
    release: str
    said: list[str]
    kept: tuple[Any, ...]

    def last_words(self) -> str:
        """The latest line that says anything."""
        return next((line for line in reversed(self.said) if line), "-")


def library(model: str) -> Library:
    """llama.cpp. ``model``: what the user asked for, for the message.

    Raises ``ModelMissing`` where the package is not installed, or is another release than those that are known.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModelMissing("extra", text("llamacpp.extra", model=model, package=PACKAGE), EXTRA)
    return _opened(found.submodule_search_locations[0])


@lru_cache(maxsize=1)
def _opened(folder: str) -> Library:
    """Once a process, whatever the models."""
    release = importlib.metadata.version(PACKAGE)
    objects = sorted(Path(folder).glob("*.so"))
    if release not in RELEASES or not objects:
        known = {"found": release, "known": ", ".join(RELEASES)}
        raise ModelMissing("extra", text("llamacpp.release", package=PACKAGE, **known), EXTRA)
    __import__(PACKAGE)  # the object is a module of Python, whose symbols it wants
    ffi = FFI()
    ffi.cdef(_DECLARATIONS)
    lib: Any = ffi.dlopen(str(objects[0]))
    if odd := _odd(ffi, lib):
        raise ModelMissing("extra", text("llamacpp.layout", package=PACKAGE, found=release, field=odd), EXTRA)
    said: list[str] = []

    @ffi.callback("void(int, const char *, void *)")
    def log(_level: int, line: Any, _data: Any) -> None:
        said.append(string(ffi, line).strip())
        del said[:-20]

    @ffi.callback("void(const char *)")
    def aborted(message: Any) -> None:  # abort() follows; without this, a debugger's backtrace would come before
        dying.speak(text("llamacpp.abort", error=printable(string(ffi, message))))

    lib.llama_log_set(log, ffi.NULL)
    lib.ggml_set_abort_callback(aborted)
    lib.llama_backend_init()
    return Library(ffi, lib, str(objects[0]), release, said, (log, aborted))


def string(ffi: Any, pointer: Any) -> str:
    """What a ``char *`` points to."""
    return str(ffi.string(pointer).decode("utf-8", "replace"))


def _odd(ffi: Any, lib: Any) -> str:
    """The first thing that is not where it was, or ""."""
    if lib.ggml_tensor_overhead() != _OBJECT + ffi.sizeof("struct ggml_tensor"):
        return "ggml_tensor"
    for params, known in ((lib.llama_model_default_params(), _MODEL), (lib.llama_context_default_params(), _CONTEXT)):
        for name, value in known.items():
            try:
                found = getattr(params, name)
            except ValueError:  # neither true nor false
                return name
            if found != (ffi.NULL if value is None else value):
                return name
    return ""
