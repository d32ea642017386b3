"""A ``SessionConfig`` as ``greta_config``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_greta.backends.base import PHASES, LayerConfig, Schedule, SessionConfig
from pytest_greta.dtypes import DTYPES, DType

MEMORIES = {"host": 0, "device": 1}
ROPE_STYLES = {"none": 0, "half": 1, "interleaved": 2}
DIRECTIONS = {"": 0, "forward": 1, "reverse": 2}
TILE_ORIGINS = {"": 0, "zero": 1, "window": 2}
MAX_UPDATES = {"": 0, "every_tile": 1, "lazy": 2, "none": 3}


def greta_config(ffi: Any, config: SessionConfig, keep: list[Any]) -> Any:
    """What it points at is put into ``keep``. Raises ``ValueError`` for a word that the ABI has no number for."""
    if len(config.layers) != config.n_layers:
        raise ValueError(f"{len(config.layers)} layer configurations for {config.n_layers} layers")
    layers = ffi.new("greta_layer_config[]", max(1, config.n_layers))
    keep.append(layers)
    for index, layer in enumerate(config.layers):
        _fill_layer(ffi, layers[index], layer, config, f"layers[{index}]", keep)
    c = ffi.new("greta_config *")
    c.struct_size = ffi.sizeof("greta_config")
    c.abi = ffi.integer_const("GRETA_ABI_VERSION")
    for name in ("n_layers", "n_heads", "n_kv_heads", "head_dim_qk", "head_dim_v", "max_seqs", "max_len"):
        setattr(c, name, getattr(config, name))
    c.page_size, c.n_pages, c.device, c.threads = config.page_size, config.n_pages, config.device, config.threads
    c.memory, c.stream = MEMORIES[config.memory], ffi.cast("void *", config.stream)
    c.act_dtype = _dtype(config.act_dtype, "act_dtype").abi
    c.kv_dtype = _dtype(config.kv_dtype, "kv_dtype").abi
    c.softmax_scale = config.softmax_scale
    for index, phase in enumerate(PHASES):
        _fill_schedule(c.schedule[index], config.schedule.get(phase, Schedule()), phase)
    c.layers = layers
    return c


def asked_features(config: SessionConfig) -> frozenset[str]:
    """The features that a library needs for this session, as ``greta_describe`` names them. RoPE's are not among them:
    where the library does not turn q and k the harness does."""
    asked = {
        "gqa": config.n_heads != config.n_kv_heads,
        "schedule": any(schedule != Schedule() for schedule in config.schedule.values()),
        "window": any(layer.window for layer in config.layers),
        "softcap": any(layer.softcap for layer in config.layers),
        "kv_scale": any(layer.k_scale or layer.v_scale for layer in config.layers),
        "sinks": any(layer.sinks for layer in config.layers),
        "alibi": any(layer.alibi for layer in config.layers),
    }
    return frozenset(name for name, wanted in asked.items() if wanted)


def _dtype(name: str, where: str) -> DType:
    if name not in DTYPES:
        raise ValueError(f"{where} is {name!r}, expected one of {', '.join(DTYPES)}")
    return DTYPES[name]


def _fill_layer(ffi: Any, c: Any, layer: LayerConfig, config: SessionConfig, where: str, keep: list[Any]) -> None:
    c.rope.base = layer.rope_base
    c.rope.style = _choice(ROPE_STYLES, layer.rope_style, f"{where}.rope_style")
    c.rope.rotary_dim = layer.rotary_dim
    c.window, c.softcap = layer.window, layer.softcap

    def array(kind: str, values: tuple[float, ...] | None, count: int, name: str) -> Any:
        if values is None:
            return ffi.NULL
        if len(values) != count:
            raise ValueError(f"{where}.{name} has {len(values)} values, expected {count}")
        keep.append(ffi.new(f"{kind}[]", list(values)))
        return keep[-1]

    c.rope.factors = array("double", layer.rope_factors, (layer.rotary_dim or config.head_dim_qk) // 2, "rope_factors")
    c.k_scale = array("float", layer.k_scale, config.n_kv_heads, "k_scale")
    c.v_scale = array("float", layer.v_scale, config.n_kv_heads, "v_scale")
    c.sinks = array("float", layer.sinks, config.n_heads, "sinks")
    c.alibi = array("float", layer.alibi, config.n_heads, "alibi")


def _fill_schedule(c: Any, schedule: Schedule, phase: str) -> None:
    where = f"schedule.{phase}"
    c.tile, c.splits = schedule.tile, schedule.splits
    c.direction = _choice(DIRECTIONS, schedule.direction, f"{where}.direction")
    c.tile_origin = _choice(TILE_ORIGINS, schedule.tile_origin, f"{where}.tile_origin")
    update, _, threshold = schedule.max_update.partition(":")
    c.max_update = _choice(MAX_UPDATES, update, f"{where}.max_update")
    if update == "lazy":
        try:
            c.max_threshold = float(threshold)
        except ValueError:
            raise ValueError(f"{where}.max_update is {schedule.max_update!r}, expected lazy:NUMBER") from None
    c.p_dtype = _dtype(schedule.p_dtype or "f32", f"{where}.p_dtype").abi
    c.p_scale = schedule.p_scale


def _choice(allowed: Mapping[str, int], value: str, where: str) -> int:
    if value not in allowed:
        raise ValueError(f"{where} is {value!r}, expected {' or '.join(name for name in allowed if name)}")
    return allowed[value]
