"""A captured graph replayed after the lengths on the device changed, against a call that was not captured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpu_calls import Arrays, Call, Place, Session

from pytest_greta.backends.base import LayerConfig, Phase, SessionConfig

HEADS, KV_HEADS, DIM, MAX_LEN, PAGE = 8, 2, 128, 700, 16
BEFORE, AFTER = (100, 37), (65, 700)
"""Rows of two sequences: other tiles, other splits, a tail where there was none."""
Q_LEN: dict[Phase, int] = {"prefill": 33, "decode": 1}


def captured(place: Place, call: Call) -> Call:
    """The call as a graph's replay. The emulation has no graphs: there it is the same call with the same arguments."""
    if place.emulated:
        return call
    graph = place.torch.cuda.CUDAGraph()
    with place.torch.cuda.graph(graph, stream=place.stream):
        call()

    def replay() -> None:
        with place.on_stream():
            graph.replay()

    return replay


def same_as_eager(path: Path, place: Place, phase: Phase, capture: Any = captured) -> str:
    """ "" where the replay gives the bytes of a call that was not captured, else what is wrong."""
    config = SessionConfig(
        n_layers=1, n_heads=HEADS, n_kv_heads=KV_HEADS, head_dim_qk=DIM, head_dim_v=DIM, max_seqs=2, max_len=MAX_LEN,
        act_dtype="bf16", kv_dtype="bf16", softmax_scale=0.0, layers=(LayerConfig(rope_style="none"),),
        page_size=PAGE, n_pages=2 * -(-MAX_LEN // PAGE),
    )  # fmt: skip
    queries = Q_LEN[phase]
    q = place.randn(2 * queries, HEADS, DIM, dtype="bf16")
    cache = [[place.randn(MAX_LEN, KV_HEADS, DIM, dtype="bf16") for _ in "kv"] for _ in BEFORE]
    first, replayed, eager = (place.zeros(*q.shape, dtype="bf16") for _ in range(3))
    arrays, later = (Arrays(place, config, list(lengths), queries) for lengths in (BEFORE, AFTER))
    session = Session(path, place, config)
    try:
        for seq, (k, v) in enumerate(cache):
            session.load(0, seq, k, v)
        session.attention(0, phase, arrays, q, first)()  # also makes room: no allocation is left for the capture
        session.sync()
        replay = capture(place, session.attention(0, phase, arrays, q, replayed))
        arrays.lengths.copy_(later.lengths)
        place.wait()
        replay()
        session.sync()
        session.attention(0, phase, later, q, eager)()
        session.sync()
    finally:
        session.close()
    if bool((first == eager).all()):
        return "the two lengths give the same output, so nothing was compared"
    differ = (replayed != eager).any(dim=2)
    if not bool(differ.any()):
        return ""
    return f"{int(differ.sum())} of {differ.numel()} rows differ from the call that was not captured"
