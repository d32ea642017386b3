"""Runs that a study once called wrongly, drawn as they were: found, at their stage and layer, by their right name."""

from __future__ import annotations

import pytest

from pytest_greta.selftest.plan import Planned
from pytest_greta.selftest.run import execute

STALE = {"fault": "kv_stale", "layer": 2, "magnitude": 1}
RUNS = [
    # in one head of one row the stale keys weigh nothing and the stale values a little
    Planned(
        "stale-values-in-one-head",
        "fault",
        "synthetic",
        402,
        {"dtype": "f32", "reuse": {"prefix": 16, "rollback": 3}, "layers": (1, 2, 3), "seed": 805891716},
        "portable",
        "kv_stale",
        inject={**STALE, "phase": "both"},
    ),
    # the stale rows weigh so little that the lse does not show them
    Planned(
        "stale-rows-below-lse",
        "fault",
        "synthetic",
        294,
        {
            "dtype": "f16",
            "reuse": {"prefix": 8, "rollback": 6},
            "page_size": 16,
            "schedule": {
                "prefill": {"tile": 21, "splits": 1, "direction": "reverse"},
                "decode": {"tile": 94, "splits": 7, "direction": "reverse"},
            },
            "layers": (1, 2, 3),
            "seed": 1590353585,
        },
        "portable",
        "kv_stale",
        inject={**STALE, "phase": "decode", "head": 6},
    ),
]


@pytest.mark.parametrize("planned", RUNS, ids=lambda p: p.id)
def test_it_is_called_by_its_right_name(planned):
    record = execute(planned)
    assert not record.error
    assert (record.found, record.stage_right, record.layer_right, record.scenario_right) == (True,) * 4
