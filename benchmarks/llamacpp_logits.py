"""How far the logits of SmolLM2-135M jump between prefill and decode in llama.cpp, healthy as it is, and what each run
is called: the figures of ``docs/llamacpp.md``, "Logits that jump".

    greta model pull smollm2-135m
    python benchmarks/llamacpp_logits.py [N ...]

The checkpoint's weights are rounded to f16 by the package gguf; flash attention over an f16 cache; N random tokens and
one decoded.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

import pytest_greta as greta
from pytest_greta.engine.store import resolve
from pytest_greta.settings import RunSettings

LENGTHS = (62, 63, 64, 511, 512)
MOSTLY_F16 = 1
"""``LLAMA_FTYPE_MOSTLY_F16``"""


def write_f16(source: Path, target: Path) -> None:
    """The same metadata and tensors, matrices in f16, vectors in f32."""
    reader = gguf.GGUFReader(source)
    arch = "general.architecture"
    writer = gguf.GGUFWriter(target, reader.fields[arch].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == arch:
            continue
        value = MOSTLY_F16 if name == "general.file_type" else field.contents()
        sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], sub_type=sub_type)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, np.ascontiguousarray(values, np.float16 if values.ndim == 2 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(lengths: list[int]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "smollm2-135m-f16.gguf"
        write_f16(resolve("smollm2-135m"), path)
        model = greta.load_model(f"llamacpp:{path}")
        print(
            "| N | largest difference of a logit | largest error over bound | verdict |\n|---|---|---|---|", flush=True
        )
        wrong = 0
        for n in lengths:
            ids = np.random.default_rng(n).integers(model.source.config.vocab, size=n + 1).tolist()
            run = greta.probe(model, ids, kv_dtype="f16", settings=RunSettings(canary="off"))
            full, decode = (run.trace.tap(of, -1, "logits").row(n) for of in ("full", "decode"))
            jump, rho = np.abs(full - decode).max(), max(check.rho for check in run.result.stages)
            print(f"| {n} | {jump:.3f} | {rho:.2f} | {run.verdict.status} |", flush=True)
            wrong += run.verdict.status != "PASS"
    return wrong


if __name__ == "__main__":
    raise SystemExit(min(main([int(n) for n in sys.argv[1:]] or list(LENGTHS)), 1))
