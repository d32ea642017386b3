"""Writes the expected values of ``test_smollm2_oracle.py``. Run it by hand; it is no part of the suite.

    python tests/oracles/make_smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf

Needs the packages llama-cpp-python, gguf, numpy and safetensors. Writes ``smollm2_135m.json`` (token ids, and of each
prompt's last-position logits 512 seeded samples, the 20 largest and the maximum) and ``smollm2_135m.safetensors``
(three whole rows of logits), both with their producer: the suite refuses values that our own engine has made.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp_run import answer
from prompts import SHORT, long_prompts, tokenizer_texts
from safetensors.numpy import save_file

HERE = Path(__file__).parent
WHOLE = ("short", "spanish", "words_600")
SAMPLES = 512


def main() -> None:
    texts: dict[str, Any] = {**SHORT, **long_prompts()}
    rng = random.Random(135)
    prompts = {**texts, "random_200": [rng.randrange(49152) for _ in range(200)]}
    strings = tokenizer_texts()
    meta, logits = answer(Path(sys.argv[1]), {"tokenize": strings, "logits": list(prompts.values())})
    rows = dict(zip(prompts, logits, strict=True))
    ids = dict(zip(prompts, meta.pop("prompts"), strict=True))
    tokens = meta.pop("tokenize")
    record = {
        **meta,
        "prompts": {
            name: {"text": texts.get(name), "ids": ids[name], **sample(name, row)} for name, row in rows.items()
        },
        "tokenizer": [{"text": text, "ids": got} for text, got in zip(strings, tokens, strict=True)],
    }
    out = HERE / "smollm2_135m.json"
    out.write_text(json.dumps(record, indent=None, separators=(",", ":")).replace('{"text"', '\n{"text"') + "\n")
    facts = {key: str(meta[key]) for key in ("producer", "version", "weights_sha256", "date")}
    save_file({name: rows[name] for name in WHOLE}, out.with_suffix(".safetensors"), facts)
    for name, row in rows.items():
        print(f"{name:12} {len(ids[name]):4} tokens, top {int(row.argmax())} at {row.max():.4f}")


def sample(name: str, row: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Of logits [vocab]: 512 seeded positions and the 20 largest, by index, and the extremes."""
    seeded = random.Random(name).sample(range(len(row)), SAMPLES)
    at = sorted({*seeded, *np.argsort(row)[-20:].tolist()})
    return {"at": at, "logits": [float(f"{row[i]:.9g}") for i in at], "top": int(row.argmax()), "max": float(row.max())}


if __name__ == "__main__":
    main()
