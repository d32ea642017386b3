"""Our builds of a GGUF's tokenizer against llama.cpp's own, over one file: SmolLM2's, and small ones trained here."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tiny_gguf
from cffi import FFI
from hypothesis import given, settings
from vocabularies import LINES, TEXT, byte_bpe

from pytest_greta.engine.store import resolve
from pytest_greta.engine.tokenizer import GgufTokenizer, tokenizer_facts
from pytest_greta.llamacpp.library import PACKAGE, library

sys.path.insert(0, str(Path(__file__).parents[1] / "oracles"))
import prompts

pytestmark = pytest.mark.llamacpp

TEXTS = prompts.tokenizer_texts()
Encode = Callable[[str], list[int]]


def llama_cpp(path: Path) -> Encode:
    """Special tokens are parsed, and a begin token is put where the file asks for it, as with ours."""
    llama = library("test")
    params = llama.lib.llama_model_default_params()
    params.vocab_only = True
    model = llama.lib.llama_model_load_from_file(str(path).encode(), params)
    assert model != llama.ffi.NULL, llama.last_words()
    ffi = FFI()
    ffi.cdef("""
        const void *llama_model_get_vocab(const void *model);
        int32_t llama_tokenize(const void *vocab, const char *text, int32_t size, int32_t *tokens, int32_t room,
                               bool add_special, bool parse_special);
    """)
    found = importlib.util.find_spec(PACKAGE)
    assert found is not None
    lib: Any = ffi.dlopen(str(next(Path(found.submodule_search_locations[0]).glob("*.so"))))
    vocab = lib.llama_model_get_vocab(ffi.cast("void *", int(llama.ffi.cast("uintptr_t", model))))

    def encode(text: str) -> list[int]:
        raw = text.encode()
        room = len(raw) + 8
        tokens = ffi.new("int32_t[]", room)
        count = lib.llama_tokenize(vocab, raw, len(raw), tokens, room, True, True)
        assert 0 <= count <= room
        return list(tokens[0:count])

    return encode


def ours(path: Path) -> Encode:
    """Built from the file as it is: the weight cache would hand out what an earlier build made of it."""
    key = "tokenizer.ggml."
    fields = {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items() if name.startswith(key)}
    return GgufTokenizer(tokenizer_facts(str(path), {n.removeprefix(key): v for n, v in fields.items()})).encode


def unlike(path: Path, texts: list[str]) -> list[tuple[str, list[int], list[int]]]:
    """(text, ours, llama.cpp's) where the two differ."""
    own, theirs = ours(path), llama_cpp(path)
    both = [(text, own(text), theirs(text)) for text in texts]
    return [entry for entry in both if entry[1] != entry[2]]


@pytest.mark.model
def test_smollm2() -> None:
    assert unlike(resolve("smollm2-135m"), TEXTS) == []


def byte_level(path: Path, pre: str) -> Path:
    vocab, merges = byte_bpe()
    tokens = sorted(vocab, key=vocab.__getitem__)
    return _written(
        path,
        {
            "model": "gpt2",
            "pre": pre,
            "tokens": [*tokens, "<|bos|>", "<|im_start|>"],
            "token_type": [*[1] * len(tokens), 3, 3],
            "merges": [" ".join(merge) for merge in merges],
            "bos_token_id": len(tokens),
            "eos_token_id": len(tokens),
        },
    )


def sentencepiece(path: Path, space_prefix: bool) -> Path:
    """A BPE with scores and bytes to fall back on, as SentencePiece's: an earlier merge has the larger score."""
    from tokenizers import SentencePieceBPETokenizer

    trained = SentencePieceBPETokenizer()
    trained.train_from_iterator(LINES, vocab_size=700, show_progress=False)
    vocab = trained.get_vocab()
    pieces = [piece for piece in sorted(vocab, key=vocab.__getitem__) if piece != "<unk>"]
    special, octets = ["<unk>", "<s>", "</s>"], [f"<0x{byte:02X}>" for byte in range(256)]
    return _written(
        path,
        {
            "model": "llama",
            "pre": None,
            "merges": None,
            "tokens": [*special, *octets, *pieces],
            "token_type": [2, 3, 3, *[6] * 256, *[1] * len(pieces)],
            "scores": [*[0.0] * 259, *[float(-i) for i in range(len(pieces))]],
            "bos_token_id": 1,
            "eos_token_id": 2,
            "unknown_token_id": 0,
            "add_space_prefix": space_prefix,
        },
    )


def _written(path: Path, tokenizer: dict[str, Any]) -> Path:
    fields = {f"tokenizer.ggml.{key}": value for key, value in tokenizer.items()}
    embedding = np.zeros((len(tokenizer["tokens"]), tiny_gguf.WIDTH))
    tiny_gguf.write_gguf(path / "tiny.gguf", fields=fields, tensors={"token_embd.weight": embedding})
    return path / "tiny.gguf"


FILES: dict[str, Callable[[Path], Path]] = {
    "smollm": lambda path: byte_level(path, "smollm"),
    "qwen2": lambda path: byte_level(path, "qwen2"),
    "llama-bpe": lambda path: byte_level(path, "llama-bpe"),
    "llama": lambda path: sentencepiece(path, True),
    "llama, no space in front": lambda path: sentencepiece(path, False),
}


@pytest.fixture(scope="module", params=FILES)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FILES[request.param](tmp_path_factory.mktemp("vocab"))


@pytest.fixture(scope="module")
def both(file: Path) -> tuple[Encode, Encode]:
    """(ours, llama.cpp's)"""
    return ours(file), llama_cpp(file)


def test_the_texts_of_the_oracles(file: Path) -> None:
    assert unlike(file, TEXTS) == []


@given(text=TEXT)
@settings(max_examples=400, deadline=None)
def test_text_over_all_of_unicode(both: tuple[Encode, Encode], text: str) -> None:
    own, theirs = both
    assert own(text) == theirs(text)
