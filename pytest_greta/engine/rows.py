"""Which rows of a prompt a probe looks at in every stage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST_BOUNDARIES = 12
"""Boundary rows a probe looks at: the first and the last of each size, and as many of the others as fit, by the
seed."""

DEALT, LEAST_DEALT = 60, 2
"""Rows of a prefill that the attention of all traced layers together is looked at in beside those, and the least of
one layer: a row of a short prompt that no stage is looked at in is so in some layer. Not more, because the checks of a
case on 512 tokens must cost less than a forward: two rows in each of 30 layers add about 1 % to them."""


def checked_rows(
    n: int, steps: int, seed: int, boundaries: Sequence[int], cuts: Sequence[int] = ()
) -> tuple[set[int], set[int]]:
    """The rows whose every stage is kept, for prefill(N) and for prefill(N + steps).

    {0, 1, N/2, N-1}, one drawn from the seed, both sides of tile and page boundaries (``boundaries``: their sizes) and
    of ``cuts`` (first rows of the calls of a prefill in pieces); all decoded rows in the full run. Another seed looks
    at other boundaries, where there are more than ``MOST_BOUNDARIES``.
    """
    rng = np.random.default_rng(seed)
    rows = {0, 1, n // 2, n - 1, int(rng.integers(n))}
    edges = [list(range(size, n, size)) for size in boundaries if size] + [sorted(cuts)]
    first_and_last = {edge for found in edges for edge in (*found[:1], *found[-1:])}
    others = sorted({edge for found in edges for edge in found} - first_and_last)
    room = max(0, MOST_BOUNDARIES - len(first_and_last))
    drawn = rng.permutation(others)[:room].tolist()
    for edge in (*first_and_last, *drawn):
        rows |= {edge - 1, edge}
    prefix = {int(row) for row in rows if 0 <= row < n}
    return prefix, prefix | set(range(n, n + steps))


def dealt_rows(n: int, checked: set[int], seed: int, layers: Sequence[int]) -> dict[int, list[int]]:
    """Rows of prefill(N) for each of ``layers``, those that are traced, none of them in ``checked``: a kernel that
    is wrong only in rows which no stage is looked at in must not escape in every layer.

    Dealt out like cards, in an order drawn from the seed: no row comes twice before each has come once.
    """
    others = np.random.default_rng([seed, 5]).permutation([row for row in range(n) if row not in checked]).tolist()
    take = min(max(LEAST_DEALT, -(-DEALT // max(len(layers), 1))), len(others))
    hands = enumerate(layers)
    return {layer: [others[(hand * take + i) % len(others)] for i in range(take)] for hand, layer in hands}
