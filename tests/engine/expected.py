"""Reads the committed expected values, and refuses those that do not come from an independent producer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

ORACLES = Path(__file__).parents[1] / "oracles"
PRODUCERS = ("llama.cpp", "transformers")


@dataclass(frozen=True)
class Expected:
    weights_sha256: str
    prompts: dict[str, dict[str, Any]]
    """text (None: ids were drawn), ids, at (indices), logits (at them), top, max."""
    tokenizer: list[dict[str, Any]]
    """text, ids."""
    whole: dict[str, np.ndarray]
    """Prompt: every logit of the last position, float32."""


def check_producer(facts: dict[str, Any], where: Path) -> None:
    """Raises ``ValueError`` unless ``facts`` name an independent producer, its version and the weights."""
    if facts.get("producer") not in PRODUCERS:
        raise ValueError(f"{where.name}: producer {facts.get('producer')!r}, expected one of {PRODUCERS}")
    if missing := [key for key in ("version", "weights_sha256", "date") if not facts.get(key)]:
        raise ValueError(f"{where.name}: does not record {missing}")


def load_expected(path: Path = ORACLES / "smollm2_135m.json") -> Expected:
    record = json.loads(path.read_text(encoding="utf-8"))
    check_producer(record, path)
    arrays = path.with_suffix(".safetensors")
    with safe_open(arrays, framework="numpy") as file:
        facts = file.metadata() or {}
        check_producer(facts, arrays)
        if facts["weights_sha256"] != record["weights_sha256"]:
            raise ValueError(f"{arrays.name} and {path.name} are of different weights")
        whole = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return Expected(record["weights_sha256"], record["prompts"], record["tokenizer"], whole)
