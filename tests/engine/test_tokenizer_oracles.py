"""Our builds of a GGUF's tokenizer against others of the same vocabulary, over text of all of Unicode: SentencePiece's
own library, and transformers' tokenizers of Qwen2 and Llama 3. The vocabularies are trained here, on a few lines."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from vocabularies import LINES, TEXT, byte_bpe

from pytest_greta.engine.tokenizer import GgufTokenizer, tokenizer_facts

pytestmark = pytest.mark.oracle

DRAWN = settings(max_examples=400, deadline=None)

Encode = Callable[[str], list[int]]


@pytest.fixture(scope="module", params=[True, False], ids=["space_prefix", "no_prefix"])
def sentencepiece(request: pytest.FixtureRequest) -> tuple[Encode, Encode]:
    """(SentencePiece's, ours): with Mistral's and Llama's leading space, and without, as Gemma's."""
    spm = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in LINES for line in text.splitlines() if line),
        model_writer=model,
        model_type="bpe",
        vocab_size=700,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=request.param,
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    processor = spm.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(processor.vocab_size())
    kinds = [(processor.is_unknown, 2), (processor.is_control, 3), (processor.is_byte, 6)]
    fields = {
        "model": "llama",
        "tokens": [processor.id_to_piece(i) for i in ids],
        "scores": [float(processor.get_score(i)) for i in ids],
        "token_type": [next((kind for holds, kind in kinds if holds(i)), 1) for i in ids],
        "add_bos_token": False,
        "add_space_prefix": request.param,
    }
    return processor.encode, GgufTokenizer(tokenizer_facts("m.gguf", fields)).encode


@given(text=TEXT)
@DRAWN
def test_sentencepiece(sentencepiece: tuple[Encode, Encode], text: str) -> None:
    theirs, ours = sentencepiece
    assert ours(text) == theirs(text)


@pytest.fixture(scope="module")
def bpe() -> tuple[dict[str, int], list[tuple[str, str]]]:
    return byte_bpe()


def ours(pre: str, vocab: dict[str, int], merges: list[tuple[str, str]]) -> Encode:
    fields = {
        "model": "gpt2",
        "pre": pre,
        "tokens": sorted(vocab, key=vocab.__getitem__),
        "token_type": [1] * len(vocab),
        "merges": [" ".join(merge) for merge in merges],
        "add_bos_token": False,
    }
    return GgufTokenizer(tokenizer_facts("m.gguf", fields)).encode


@pytest.fixture(scope="module")
def qwen2(bpe: Any) -> tuple[Encode, Encode]:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.Qwen2Tokenizer(vocab=bpe[0], merges=bpe[1])
    return lambda text: theirs(text, add_special_tokens=False)["input_ids"], ours("qwen2", *bpe)


@given(text=TEXT)
@DRAWN
def test_qwen2(qwen2: tuple[Encode, Encode], text: str) -> None:
    import unicodedata

    theirs, ours = qwen2
    text = unicodedata.normalize("NFC", text)  # which Qwen's tokenizer does, and llama.cpp does not
    assert ours(text) == theirs(text)


@pytest.fixture(scope="module")
def llama3(bpe: Any) -> tuple[Encode, Encode]:
    """With the expression by which transformers converts Llama 3's file of ranks."""
    convert = pytest.importorskip("transformers.convert_slow_tokenizer")
    theirs = convert.TikTokenConverter
    import inspect

    pattern = inspect.signature(theirs.__init__).parameters["pattern"].default
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab=bpe[0], merges=bpe[1], ignore_merges=True))
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return lambda text: tokenizer.encode(text).ids, ours("llama-bpe", *bpe)


@given(text=TEXT)
@DRAWN
def test_llama3(llama3: tuple[Encode, Encode], text: str) -> None:
    theirs, ours = llama3
    assert ours(text) == theirs(text)
