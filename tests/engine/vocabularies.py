"""Lines in several scripts to train small vocabularies on, texts over all of Unicode, and the vocabularies."""

from __future__ import annotations

import json

from hypothesis import strategies as st

LINES = [
    "The quick brown fox jumps over the lazy dog, and it's 12345 years old; they're fine.",
    "def main(argv):\n\tprint('hello world')  # 3.14159\n\n    return 0\r\n",
    "El veloz murciélago hindú comía feliz cardillo y kiwi. ¿Qué tal? ¡Adiós!",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "敏捷的棕色狐狸跳过懒狗。日本語のテキスト、カタカナ。한국어 문장입니다.",
    "a  b   c    d     e\t\tf\n\n\ng   ",
] * 8
WORDS = st.sampled_from(" ".join(LINES[:6]).split(" "))
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<\x00"), max_size=30)
SPACES = st.text(st.sampled_from(" \t\n\r\u00a0\u2003"), max_size=5)
TEXT = st.lists(st.one_of(WORDS, ANY, SPACES), max_size=8).map("".join)
"""No "<": the others are not asked for special tokens in a text. No NUL: SentencePiece ends there."""


def byte_bpe() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """(vocabulary, merges) of a byte-level BPE."""
    from tokenizers import ByteLevelBPETokenizer

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(LINES, vocab_size=800, min_frequency=2, show_progress=False)
    model = json.loads(trained.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]
