"""Runs llama.cpp in float32 and writes what it says. Imports nothing of pytest_greta.

    python llama_cpp_run.py MODEL.gguf REQUEST.json OUT.npz

REQUEST.json: {"tokenize": [text, ...], "logits": [[token id, ...] or text, ...]}. OUT.npz: ``meta`` (JSON: producer,
version, weights_sha256, date, settings, and the token ids of each text and prompt) and ``logits_0``, ``logits_1``, ...
(float32 [vocab], last position).

Needs the packages llama-cpp-python, gguf and numpy. llama.cpp runs on an F32 copy of the checkpoint (the same weights,
dequantised by the package gguf) with an F32 KV cache and without flash attention: on the quantised file it rounds
activations to 8 bits, which moves a logit by up to 2.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np

F32 = 0
"""``GGML_TYPE_F32`` and ``LLAMA_FTYPE_ALL_F32``."""
SETTINGS: dict[str, Any] = {"n_ctx": 1024, "n_batch": 1024, "n_ubatch": 1024, "n_threads": 2, "n_threads_batch": 2}
SETTINGS |= {"type_k": F32, "type_v": F32, "flash_attn": False, "logits_all": True}


def write_f32_copy(source: Path, target: Path) -> None:
    """The same metadata and the same tensors, dequantised."""
    reader = gguf.GGUFReader(source)
    arch = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, arch)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = F32 if name == "general.file_type" else field.contents()
        sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], sub_type=sub_type)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, np.ascontiguousarray(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def answer(model: Path, request: dict[str, Any]) -> tuple[dict[str, Any], list[np.ndarray[Any, Any]]]:
    """The meta data and the logits of ``request``."""
    import llama_cpp

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "f32.gguf"
        write_f32_copy(model, copy)
        llm = llama_cpp.Llama(str(copy), verbose=False, **SETTINGS)

        def tokenize(text: str) -> list[int]:
            # add_bos: llama.cpp itself then looks at the checkpoint's add_bos_token.
            return list(llm.tokenize(text.encode(), add_bos=True, special=True))

        prompts = [tokenize(p) if isinstance(p, str) else list(p) for p in request["logits"]]
        logits = []
        for ids in prompts:
            llm.reset()
            llm.eval(ids)
            logits.append(np.array(llm.scores[len(ids) - 1], dtype=np.float32))
        meta = {
            "producer": "llama.cpp",
            "version": f"llama-cpp-python {llama_cpp.__version__}",
            "system": llama_cpp.llama_print_system_info().decode().strip(),
            "weights_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "settings": SETTINGS,
            "tokenize": [tokenize(text) for text in request["tokenize"]],
            "prompts": prompts,
        }
        llm.close()
    return meta, logits


def main() -> None:
    model, request, out = map(Path, sys.argv[1:])
    meta, logits = answer(model, json.loads(request.read_text(encoding="utf-8")))
    np.savez(out, meta=json.dumps(meta), **{f"logits_{i}": row for i, row in enumerate(logits)})


if __name__ == "__main__":
    main()
