"""A SentencePiece vocabulary from a GGUF's metadata (Mistral, Gemma), rebuilt as a BPE of the package ``tokenizers``.

llama.cpp (``src/llama-vocab.cpp``, ``llm_tokenizer_spm``) joins the two neighbours whose union is the piece of the
highest score, again and again; a BPE does the same where its merges are all the ways to cut a piece in two, the best
piece's first. What no piece covers becomes bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

SPACE = "▁"
"""What a space is in a piece."""
_UNKNOWN, _BYTE = 2, 6
"""``tokenizer.ggml.token_type``: what stands for the unknown, and for one byte."""


def build(tokens: Sequence[str], scores: Sequence[float], types: Sequence[int], space_prefix: bool) -> Any:
    """A ``tokenizers.Tokenizer`` without its special tokens. ``space_prefix``: a text begins as after a space.

    Raises what the package raises where the lists do not fit together.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers

    vocab = {token: i for i, token in enumerate(tokens)}
    unknown = next((t for t, kind in zip(tokens, types, strict=True) if kind == _UNKNOWN), None)
    whole = {t for t, kind in zip(tokens, types, strict=True) if kind not in (_UNKNOWN, _BYTE)}
    merges = [pair for _, pair in sorted(_cuts(tokens, scores, whole), key=lambda cut: -cut[0])]
    spm = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefix = [normalizers.Prepend(SPACE)] if space_prefix else []
    spm.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if space_prefix else []
    spm.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return spm


def _cuts(tokens: Sequence[str], scores: Sequence[float], whole: set[str]) -> Iterator[tuple[float, tuple[str, str]]]:
    """Every way to cut a piece into two pieces, with its score."""
    for token, score in zip(tokens, scores, strict=True):
        if token in whole:
            for at in range(1, len(token)):
                pair = token[:at], token[at:]
                if pair[0] in whole and pair[1] in whole:
                    yield score, pair
