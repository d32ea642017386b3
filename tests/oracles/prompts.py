"""Texts for the oracles: seeded, so that whoever runs it again gets the same ones."""

from __future__ import annotations

import random

_TEXT = (
    "the cache holds one row for every token that was seen before and a query reads them all la atención lee "
    "cada fila escrita y decide cuánto pesa year 2026 río mañana naïve coöperate 東京 Москва don't they're "
    "we'll x86-64 3.1416 1e-5 0x7fff kv_read() lambda x: x**2 != None -> dict[str, int]; // comment /* tile */ "
    "return 0; #include <vector> however, therefore; perhaps? yes! (brackets) [list] {set} \"quoted\" 'single' "
    "e-mail@example.org https://example.org über straße façade señor piñata whether weather together another "
    "otherwise nonetheless antidisestablishmentarianism"
)
_WORDS = _TEXT.split(" ")
_SPACES = (" ", " ", " ", " ", " ", " ", "  ", "\n", "\n\n", "\t", "\n    ")
_RANGES = (
    (0x20, 0x7E), (0x20, 0x7E), (0xA0, 0x17F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F),
    (0x2000, 0x206F), (0x2150, 0x218F), (0x2460, 0x24FF), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
    (0xFE00, 0xFE0F), (0xFF01, 0xFFEF), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0x9, 0xD), (0x300, 0x36F),
)  # fmt: skip

SHORT = {
    "short": "Hi\n",
    "one_token": "The",
    "spanish": "¿Por qué el cielo es azul? Explícalo en una sola frase, como si yo fuera un niño de ocho años:\n",
    "code": "def softmax(x):\n    m = max(x)\n    e = [math.exp(v - m) for v in x]\n"
    "    return [v / sum(e) for v in e]\n\n\n",
    "unicode": "Emoji 👩‍👩‍👧‍👦🏳️‍🌈 and 東京, Ελλάδα, العربية, हिन्दी, é vs e\u0301, ½ ² Ⅷ ﬁ\u200b…",
    "digits": "3.14159 26535 8979, 1234567890 + 0042 = 1e-5; ٣٤٥ १२३",
    "whitespace": " \t\n\n   two   spaces\t\ttabs\r\n \u00a0\u3000end   ",
    "chat": "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n",
}
LONG = {"words_128": 43, "words_300": 100, "words_600": 207}
"""Words of each text; the names say about how many tokens they give."""


def words(rng: random.Random, count: int) -> str:
    """A text of ``count`` words of several languages, code and numbers, with mixed white space."""
    return "".join(rng.choice(_WORDS) + rng.choice(_SPACES) for _ in range(count))


def long_prompts() -> dict[str, str]:
    return {name: words(random.Random(name), count) for name, count in LONG.items()}


def random_text(rng: random.Random, length: int) -> str:
    """Characters of one to three scripts, spaces among them."""
    ranges = rng.sample(_RANGES, rng.randint(1, 3))
    return "".join(" " if rng.random() < 0.15 else chr(rng.randint(*rng.choice(ranges))) for _ in range(length))


def tokenizer_texts() -> list[str]:
    """420 texts: the prompts, edge cases, and random ones."""
    rng = random.Random(366)
    edge = [
        " ",
        "  ",
        "\n",
        "\t",
        "a",
        " a",
        "a ",
        "  a",
        "a  b",
        "'s",
        "it's it'S IT'S",
        "don't",
        "1",
        "12",
        " 1",
        "a1b2",
    ]
    edge += [
        "<|im_start|>",
        "x<|im_end|>y",
        "<|im_start",
        "<|endoftext|><|endoftext|>",
        " <|im_start|> ",
        "\x00",
        "\ufeffa",
    ]
    edge += ["\r\n", "a\r\nb", "\u2028", "\u0085", "...", "!!!???", "a_b-c", "CamelCase", "\U0010ffff", "é", "e\u0301"]
    texts = [*SHORT.values(), *long_prompts().values(), *edge]
    texts += [words(rng, rng.randint(1, 12)) for _ in range(110)]
    while len(texts) < 420:
        texts.append(random_text(rng, rng.randint(1, 40)))
    return texts
