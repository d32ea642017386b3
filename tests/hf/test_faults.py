"""Models and caches of transformers that were broken on purpose: each fault is found at its layer and stage."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import small_models
import torch
import transformers
from transformers.cache_utils import DynamicSlidingWindowLayer, Fp8QuantizedLayer, StaticSlidingWindowLayer

import pytest_greta as greta
from pytest_greta.backends.base import Unsupported
from pytest_greta.trace.stages import MODEL

pytestmark = pytest.mark.transformers

IDS = np.random.default_rng(5).integers(small_models.VOCAB, size=34).tolist()


def found(run: Any) -> tuple[str, int, str, str]:
    failure = run.verdict.first_failure
    assert failure is not None, run.verdict
    return run.verdict.status, failure.layer, failure.stage, failure.phase


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_position_ids_off_by_one_in_decode(family: str) -> None:
    model = small_models.make(family)
    forward = model.model.rotary_emb.forward

    def shifted(x: Any, position_ids: Any, *args: Any, **kwargs: Any) -> Any:
        return forward(x, position_ids + (x.shape[1] == 1), *args, **kwargs)

    model.model.rotary_emb.forward = shifted
    assert found(greta.probe(model, IDS)) == ("KV_MISMATCH", 0, "q_rope", "decode")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_learned_positions_off_by_one_in_decode(attention: str, dtype: torch.dtype) -> None:
    model = small_models.make("gpt2").to(dtype)
    learned = model.transformer.wpe
    forward = learned.forward
    learned.forward = lambda ids: forward(ids + (ids.shape[1] == 1))
    assert found(greta.probe(model, IDS, backend=attention)) == ("KV_MISMATCH", MODEL, "pos_embed", "decode")


def test_another_gelu_in_decode() -> None:
    model = small_models.make("gpt2")
    act = model.transformer.h[1].mlp.act
    forward = act.forward
    act.forward = lambda x: torch.nn.functional.gelu(x) if x.shape[1] == 1 else forward(x)
    assert found(greta.probe(model, IDS)) == ("KV_MISMATCH", 1, "ffn_act", "decode")


@pytest.mark.parametrize(
    ("module", "row", "stage"),
    [
        ("attn.c_attn", 3, "q_proj"),
        ("attn.c_attn", 64 + 3, "k_proj"),
        ("attn.c_attn", 128 + 3, "v_proj"),
        ("attn.c_proj", 3, "o_proj"),
        ("ln_1", 3, "attn_norm"),
        ("ln_2", 3, "ffn_norm"),
        ("mlp.c_fc", 3, "up_proj"),
        ("mlp.c_proj", 3, "down_proj"),
    ],
)
def test_a_bias_of_gpt2_that_is_left_out_in_prefill(module: str, row: int, stage: str) -> None:
    model = small_models.make("gpt2")
    inner = model.transformer.h[1].get_submodule(module)
    bias = inner.bias.detach().clone()

    def without(_module: Any, _args: Any, output: Any) -> Any:
        if output.shape[1] > 1:
            output[..., row] -= bias[row]
        return output

    inner.register_forward_hook(without)
    assert found(greta.probe(model, IDS)) == ("KV_MISMATCH", 1, stage, "prefill")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_wrong_scale_in_decode_only(attention: str) -> None:
    model = small_models.make("qwen2")
    layer = model.model.layers[1].self_attn
    forward, right = layer.forward, layer.scaling

    def scaled(hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        layer.scaling = right * (1.01 if hidden_states.shape[1] == 1 else 1.0)
        return forward(hidden_states, *args, **kwargs)

    layer.forward = scaled
    run = greta.probe(model, IDS, backend=attention)
    assert found(run) == ("KV_MISMATCH", 1, "attn_out", "decode")
    assert run.verdict.scenario == "KV_MISALIGNMENT"
    assert "who.decode_kernel" in run.verdict.first_failure.causes


class RollsEarly(DynamicSlidingWindowLayer):
    """Keeps one row too few, and says so to the mask: the oldest row of the window is gone a step early."""

    def update(self, k: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
        full = super().update(k, v, *args, **kwargs)
        self.keys, self.values = (
            self.keys[:, :, -self.sliding_window + 2 :],
            self.values[:, :, -self.sliding_window + 2 :],
        )
        return full

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        kept = self.keys.shape[-2] if self.is_initialized else 0
        return kept + query_length, self.cumulative_length - kept


class RollsBeforeItIsFull(StaticSlidingWindowLayer):
    """Moves its rows by one at a step before the window is full."""

    def update(self, k: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
        if k.shape[-2] == 1 and self.cumulative_length_int < self.max_cache_len:
            self.keys.copy_(self.keys.roll(-1, dims=-2))
            self.values.copy_(self.values.roll(-1, dims=-2))
        return super().update(k, v, *args, **kwargs)


class Swaps(Fp8QuantizedLayer):
    """Gives back row 7 where row 8 was written, in decode."""

    def _dequantize(self, qtensor: Any) -> Any:
        rows = super()._dequantize(qtensor)
        rows[:, :, 8] = rows[:, :, 7]
        return rows


class LosesAStep(Fp8QuantizedLayer):
    """Keeps one bit of the mantissa less."""

    def _quantize(self, tensor: Any, scale: Any = None) -> Any:
        kept, scale = super()._quantize(tensor, scale)
        return kept.float().to(torch.float8_e5m2).to(self.fp8_dtype), scale


@pytest.mark.parametrize("layer", [Swaps, LosesAStep])
def test_a_quantised_cache_that_keeps_a_row_wrong(layer: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers.cache_utils, "Fp8QuantizedLayer", layer)
    run = greta.probe(small_models.make("llama"), IDS, backend={"cache": "fp8"})
    status, number, stage, _ = found(run)
    assert (status, number, stage) == ("KV_MISMATCH", 0, "kv_read")
    assert run.verdict.scenario == "REAL_MISMATCH"


@pytest.mark.skipif(not importlib.util.find_spec("hqq"), reason="hqq")
@pytest.mark.parametrize("change", ["row", "step"])
def test_a_cache_by_hqq_that_keeps_a_row_wrong(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = transformers.cache_utils.HQQQuantizedLayer

    class Wrong(own):  # type: ignore[misc,valid-type]
        def _dequantize(self, qtensor: Any) -> Any:
            rows = super()._dequantize(qtensor).clone()
            if change == "row":
                rows[:, :, 8] = rows[:, :, 7]
            else:  # one element of one row, by one step
                rows[0, 0, 7, 0] += qtensor[1]["scale"].max()
            return rows

    monkeypatch.setattr(transformers.cache_utils, "HQQQuantizedLayer", Wrong)
    run = greta.probe(small_models.make("llama", head_dim=32), IDS, backend={"cache": "hqq"})
    status, number, stage, _ = found(run)
    assert (status, number, stage) == ("KV_MISMATCH", 0, "kv_read")


def test_a_cache_that_rolls_one_step_early() -> None:
    def cache(config: Any) -> Any:
        made = transformers.DynamicCache(config=config)
        made.layers = [RollsEarly(sliding_window=config.sliding_window) for _ in made.layers]  # one mask serves all
        return made

    model = greta.load_model(small_models.make("mistral"), cache=cache)
    assert found(greta.probe(model, IDS, backend="eager")) == ("KV_MISMATCH", 0, "attn_out", "decode")


def test_a_static_cache_that_rolls_before_it_is_full() -> None:
    def cache(config: Any) -> Any:
        made = transformers.StaticCache(config=config, max_cache_len=64)
        made.layers[1] = RollsBeforeItIsFull(max_cache_len=64, sliding_window=config.sliding_window)
        return made

    model = greta.load_model(small_models.make("mistral"), cache=cache)
    assert found(greta.probe(model, IDS[:12], backend="eager")) == ("KV_MISMATCH", 1, "kv_read", "decode")


def test_a_weight_that_is_not_the_checkpoint_s(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name = small_models.save(small_models.make("gemma2"), tmp_path)
    load = transformers.AutoModelForCausalLM.from_pretrained

    def loaded(*args: Any, **kwargs: Any) -> Any:
        model = load(*args, **kwargs)
        with torch.no_grad():
            model.model.layers[1].mlp.up_proj.weight[3] *= 1.001
        return model

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", loaded)
    assert found(greta.probe(name, IDS)) == ("KV_MISMATCH", 1, "up_proj", "both")


INJECTED = [
    ({"fault": "w_route", "phase": "prefill", "stage": "q_proj"}, "q_proj", "prefill"),
    ({"fault": "rope_pos", "phase": "decode", "magnitude": 2}, "q_rope", "decode"),
    ({"fault": "kv_slot", "phase": "decode"}, "kv_write", "decode"),
    ({"fault": "gain", "phase": "decode", "stage": "kv_write", "magnitude": 1}, "kv_write", "decode"),
    ({"fault": "kv_len", "phase": "decode"}, "attn_out", "decode"),
    ({"fault": "qk_scale", "phase": "decode", "magnitude": 0.1}, "attn_out", "decode"),
    ({"fault": "gqa_map", "phase": "both"}, "attn_out", "both"),
]


@pytest.mark.parametrize(("fault", "stage", "phase"), INJECTED, ids=[f["fault"] for f, _, _ in INJECTED])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_fault_of_the_case(tmp_path: Any, fault: dict[str, Any], stage: str, phase: str, dtype: str) -> None:
    name = small_models.save(small_models.make("mistral"), tmp_path)
    run = greta.probe(name, IDS[:10], inject={**fault, "layer": 1}, dtype=dtype)
    assert found(run) == ("KV_MISMATCH", 1, stage, phase)
    assert run.verdict.evidence.canary == "inject"


def test_a_fault_of_the_case_in_a_fused_projection() -> None:
    fault = {"fault": "w_route", "phase": "prefill", "stage": "q_proj", "layer": 1}
    run = greta.probe(small_models.make("gpt2"), IDS, inject=fault)
    assert found(run) == ("KV_MISMATCH", 1, "q_proj", "prefill")
    assert not {"k_proj", "v_proj"} & {check.stage for check in run.result.stages if check.rho > 1.0}


def test_without_rope_no_position_of_it_can_be_planted() -> None:
    with pytest.raises(Unsupported, match="fault rope_pos, as it is asked for, cannot be planted"):
        greta.probe(small_models.make("gpt2"), IDS, inject={"fault": "rope_pos", "phase": "decode"})


@pytest.mark.parametrize(
    "fault", [{"fault": "tail_nan"}, {"fault": "kv_len", "magnitude": 1}, {"fault": "gqa_map", "head": 1}], ids=str
)
def test_a_fault_that_cannot_be_planted_is_not_run(fault: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match=f"fault {fault['fault']}, as it is asked for, cannot be planted"):
        greta.probe(small_models.make("llama"), IDS, inject=fault)
