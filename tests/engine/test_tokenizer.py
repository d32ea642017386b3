"""The tokenizer over a tiny vocabulary; against llama.cpp on the real one in ``test_smollm2_oracle.py``."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_gguf import FIELDS, SPECIALS, TOKENS, write_gguf

import pytest_greta as greta
from pytest_greta.engine.gguf import load_gguf
from pytest_greta.engine.store import ModelError
from pytest_greta.engine.tokenizer import GgufTokenizer, tokenizer_facts

ID = {token: i for i, token in enumerate(TOKENS)}


def build(**changes: object) -> GgufTokenizer:
    fields = {k.removeprefix("tokenizer.ggml."): v for k, v in FIELDS.items() if k.startswith("tokenizer.ggml.")}
    return GgufTokenizer(tokenizer_facts("m.gguf", {**fields, **changes}))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        ("hello", ["hello"]),
        ("hell", ["hell"]),
        ("Hello", ["H", "e", "ll", "o"]),
        ("hello world", ["hello", "Ġw", "o", "r", "l", "d"]),
        ("hello\n", ["hello", "Ċ"]),
        ("12", ["1", "2"]),  # digits stand alone ...
        (" 1", ["Ġ", "1"]),  # ... and take no space with them
        ("é", ["Ã", "©"]),
        ("<|im_start|>hello<|im_end|>", ["<|im_start|>", "hello", "<|im_end|>"]),
        ("a<|im_end|>", ["a", "<|im_end|>"]),
        ("<user>x", ["<user>", "x"]),
        ("<|im_", ["<", "|", "i", "m", "_"]),
    ],
)
def test_tokens_worked_out_by_hand(text: str, tokens: list[str]) -> None:
    tokenizer = build()
    assert tokenizer.encode(text) == [ID[token] for token in tokens]
    assert tokenizer.decode([ID[token] for token in tokens]) == text


def test_no_begin_token_unless_the_file_asks() -> None:
    hello = [ID["hello"]]
    assert build().encode("hello") == hello
    assert build(add_bos_token=True).encode("hello") == [1, *hello]
    assert build(add_bos_token=True, add_eos_token=True).encode("") == [1, 2]
    assert build(add_bos_token=False).encode("hello") == hello


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_round_trip_of_any_text(text: str) -> None:
    tokenizer = build()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_bytes_that_are_no_utf8_decode_to_something() -> None:
    assert build().decode([ID["Ã"], ID["h"]]) == "\ufffdh"


@pytest.mark.parametrize("changes", [{"model": "bert"}, {"pre": "nonesuch"}, {"model": None}])
def test_unsupported_tokenizer_is_said_at_the_first_text(changes: dict[str, object]) -> None:
    tokenizer = build(**changes)
    with pytest.raises(ModelError, match=r"m\.gguf: tokenizer .* is not supported \(known: gpt2/smollm") as caught:
        tokenizer.encode("x")
    assert caught.value.kind == "tokenizer"
    assert "token_ids" in caught.value.mend


def test_a_model_with_an_unsupported_tokenizer_still_loads(tmp_path: Path, own_cache: Path) -> None:
    write_gguf(tmp_path / "m.gguf", fields={"tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": None})
    source = load_gguf(tmp_path / "m.gguf")
    assert source.config.vocab == len(TOKENS)
    run = greta.probe(str(tmp_path / "m.gguf"), [5, 6, 7, 8], mode="kv_aligned")
    assert run.verdict.status == "PASS"
    with pytest.raises(ModelError, match="tokenizer bert is not"):
        source.tokenizer.encode("x")


@pytest.mark.parametrize(
    "changes", [{"tokens": None}, {"merges": None}, {"token_type": [1]}, {"merges": [1]}, {"tokens": 7}]
)
def test_missing_lists(changes: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="must be there"):
        build(**changes)


def test_specials_are_whole_in_every_position() -> None:
    tokenizer = build()
    for special in SPECIALS:
        assert tokenizer.encode(f"h{special}1 {special}")[1] == ID[special]
