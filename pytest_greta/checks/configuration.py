"""What a run was really set up with, against the checkpoint and the plan.

The references of the checks use the checkpoint's parameters, so a wrong one shows in some stage as well, if the prompt
reaches it: a window at a length beyond it, a soft cap near the cap. Here it shows whatever the prompt is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pytest_greta.backends.base import LayerConfig
from pytest_greta.checks.result import Difference
from pytest_greta.engine.spec import ModelConfig, ModelSource
from pytest_greta.trace.paths import phase_of
from pytest_greta.trace.records import Trace
from pytest_greta.trace.stages import MODEL

SESSION = ("n_layers", "n_heads", "n_kv_heads", "head_dim_qk", "head_dim_v", "softmax_scale")
"""What a session is opened with once, by the names that session and checkpoint share."""
_STAGES: Mapping[str, str] = {
    **dict.fromkeys(("rope_base", "rope_style", "rotary_dim", "rope_factors", "position"), "q_rope"),
    **dict.fromkeys(("k_scale", "v_scale", "kv_dtype"), "kv_write"),
    "token": "embed_out",
    "act_dtype": "attn_out",
}


def configuration(trace: Trace, source: ModelSource) -> list[Difference]:
    """In the order of the stages that they spoil; empty where nothing differs or the trace does not say."""
    found = [*_planned(trace), *_sessions(trace, source.config)]
    return sorted(found, key=lambda d: (d.layer != MODEL, d.layer, d.phase != "prefill"))


def stage_of(name: str) -> str:
    """The stage that a parameter is used in; lse for all that makes the scores."""
    return _STAGES.get(name.partition("[")[0], "lse")


def _planned(trace: Trace) -> Iterator[Difference]:
    """Token ids are the case's, and a row's RoPE position is its number."""
    plan = np.asarray(trace.facts.get("tokens", ()), dtype=np.int64)
    for path in trace.paths.values():
        phase = phase_of(path.path)
        if len(plan):
            known = path.rows < len(plan)
            wrong = np.flatnonzero(~known | (plan[np.minimum(path.rows, len(plan) - 1)] != path.tokens))
            for i in wrong[:1]:
                planned = int(plan[path.rows[i]]) if known[i] else None
                yield Difference(phase, MODEL, f"token[{path.rows[i]}]", int(path.tokens[i]), planned)
        for i in np.flatnonzero(path.rows != path.rope_positions)[:1]:
            row = int(path.rows[i])
            yield Difference(phase, MODEL, f"position[{row}]", int(path.rope_positions[i]), row)


def _sessions(trace: Trace, config: ModelConfig) -> Iterator[Difference]:
    opened: Mapping[str, Mapping[str, Any]] = trace.facts.get("opened", {})
    for phase, session in opened.items():
        wanted: dict[str, Any] = {name: getattr(config, name) for name in SESSION}
        wanted |= {"act_dtype": trace.act_dtype, "kv_dtype": trace.kv_dtype}
        default = config.head_dim_qk**-0.5  # 0 means this
        for name, value in wanted.items():
            given, right = session[name], value
            if name == "softmax_scale":
                given, right = given or default, right or default
            if given != right:
                yield Difference(phase, MODEL, name, given, right)
        for layer, (given_layer, source_layer) in enumerate(zip(session["layers"], config.layers, strict=False)):
            if layer in trace.layers:
                yield from _layer(phase, layer, given_layer, _canonical(vars(source_layer), config), config)


def _layer(
    phase: str, layer: int, given: Mapping[str, Any], wanted: Mapping[str, Any], config: ModelConfig
) -> Iterator[Difference]:
    mine = _canonical(given, config)
    for name, value in wanted.items():
        if mine[name] == value:
            continue
        if isinstance(value, tuple) and isinstance(mine[name], tuple) and len(value) == len(mine[name]):
            i = next(i for i, (a, b) in enumerate(zip(mine[name], value, strict=True)) if a != b)
            yield Difference(phase, layer, f"{name}[{i}]", mine[name][i], value[i])
        else:
            yield Difference(phase, layer, name, _short(mine[name]), _short(value))


def _canonical(layer: Mapping[str, Any], config: ModelConfig) -> dict[str, Any]:
    """Every parameter in one spelling: what is left out and what is neutral are the same."""
    values: dict[str, Any] = {name: layer[name] for name in LayerConfig.__dataclass_fields__}
    neutral = {"k_scale": 1.0, "v_scale": 1.0, "rope_factors": 1.0, "alibi": 0.0}
    for name, value in values.items():
        if isinstance(value, Sequence) and not isinstance(value, str):
            values[name] = None if name in neutral and set(value) == {neutral[name]} else tuple(value)
    values["rotary_dim"] = values["rotary_dim"] or config.head_dim_qk
    return values


def _short(value: Any) -> Any:
    return f"{len(value)} values" if isinstance(value, tuple) else value
