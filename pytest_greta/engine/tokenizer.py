"""The tokenizer of a GGUF, from its metadata, by the package ``tokenizers``, after llama.cpp.

``tokenizer.ggml.model`` is ``gpt2``, a byte-level BPE, or ``llama``, SentencePiece (``tokenizer_spm.py``). How a BPE's
text is split first goes by ``tokenizer.ggml.pre``: llama.cpp, ``src/llama-vocab.cpp``, ``llm_tokenizer_bpe``. Special
tokens in a prompt are parsed (``<|im_start|>`` is one token), as llama-cli and llama-server do with prompts
(``parse_special=true``); a chat template is not applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeGuard

from pytest_greta.engine.store import ModelError, ModelMissing
from pytest_greta.texts import text as say

if TYPE_CHECKING:
    import tokenizers

_CONTROL, _USER_DEFINED = 3, 4
"""``tokenizer.ggml.token_type``. llama.cpp finds both whole in a text before it splits the rest."""

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|%s| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PRE: Mapping[str, str] = {"smollm": "", "qwen2": _WORDS % r"\p{N}", "llama-bpe": _WORDS % r"\p{N}{1,3}"}
"""What a text is split into first, an expression by pre-tokenizer; "": single digits, and GPT-2's words. All have
been compared with llama.cpp, the last two with transformers' tokenizers as well."""

_KINDS = (*(f"gpt2/{name}" for name in _PRE), "llama")


def import_tokenizers() -> Any:
    """The package ``tokenizers``. Raises ``ModelMissing`` (extra)."""
    try:
        import tokenizers
    except ImportError:
        raise missing_extra("tokenizers") from None
    return tokenizers


def missing_extra(package: str) -> ModelMissing:
    return ModelMissing("extra", say("model.extra", package=package), "pip install 'pytest-greta[gguf]'")


class GgufTokenizer:
    """Implements ``spec.Tokenizer``. Built at first use: a run over token ids does not pay for it (0.1 s)."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        """``facts``: what ``tokenizer_facts`` returned; plain JSON types."""
        self._facts = facts

    @cached_property
    def _tokenizer(self) -> tokenizers.Tokenizer:
        if kind := self._facts.get("unsupported"):
            message = say("tokenizer.unsupported", path=self._facts["where"], tokenizer=kind, known=", ".join(_KINDS))
            raise ModelError("tokenizer", message, say("mend.token_ids"))
        built: tokenizers.Tokenizer = import_tokenizers().Tokenizer.from_str(self._facts["json"])
        return built

    def encode(self, text: str) -> list[int]:
        """Token ids, with the begin-of-sequence token first only where the checkpoint asks for it. "" may give []."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [*self._facts["prefix"], *ids, *self._facts["suffix"]]

    def decode(self, ids: Sequence[int]) -> str:
        """The text, special tokens included; bytes that are no UTF-8 become U+FFFD, so that this may lose something."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text


def tokenizer_facts(where: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What ``GgufTokenizer`` needs, from the ``tokenizer.ggml.*`` fields of a GGUF (keys without that prefix).

    An unsupported kind of tokenizer is not an error here: token ids can still be given. ``where`` names the file.
    """
    kind, pre = fields.get("model"), fields.get("pre", "default")
    named = f"{kind}/{pre}" if kind == "gpt2" else str(kind)
    if named not in _KINDS:
        return {"unsupported": named, "where": where}
    tokens, types = fields.get("tokens"), fields.get("token_type")
    if not (_texts(tokens) and tokens and isinstance(types, list) and len(types) == len(tokens)):
        raise ModelError("tokenizer", say("tokenizer.fields", path=where), say("mend.damaged"))
    tk = import_tokenizers()
    try:
        tokenizer = _spm(where, fields, tokens, types) if kind == "llama" else _bpe(where, fields, tokens)
        found_whole = list(zip(tokens, types, strict=True))  # in a text, before anything is split
        tokenizer.add_special_tokens([tk.AddedToken(t, special=True) for t, k in found_whole if k == _CONTROL])
        tokenizer.add_tokens([tk.AddedToken(t, normalized=False) for t, k in found_whole if k == _USER_DEFINED and t])
    except ModelError:
        raise
    except Exception as error:  # the package raises bare Exception for a merge outside the vocabulary
        raise ModelError("tokenizer", f"{where}: {error}", say("mend.damaged")) from None
    # without the key llama.cpp puts a begin token in front of SentencePiece texts and of Llama 3's
    begins = kind == "llama" or pre == "llama-bpe"
    return {
        "json": tokenizer.to_str(),
        "prefix": _marker(where, fields, "bos", begins, len(tokens)),
        "suffix": _marker(where, fields, "eos", False, len(tokens)),
    }


def _texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _marker(where: str, fields: Mapping[str, Any], name: str, default: bool, vocab: int) -> list[int]:
    """[id] where the checkpoint puts that token around a text (``add_bos_token``, ``add_eos_token``), else []."""
    if not fields.get(f"add_{name}_token", default):
        return []
    token = fields.get(f"{name}_token_id")
    if not isinstance(token, int) or not 0 <= token < vocab:
        message = say("tokenizer.marker", path=where, name=name, token=token, last=vocab - 1)
        raise ModelError("tokenizer", message, say("mend.damaged"))
    return [token]


def _bpe(where: str, fields: Mapping[str, Any], tokens: Sequence[str]) -> Any:
    tk = import_tokenizers()
    from tokenizers import decoders, models, pre_tokenizers

    merges = fields.get("merges")
    if not _texts(merges):
        raise ModelError("tokenizer", say("tokenizer.fields", path=where), say("mend.damaged"))
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    vocab = {token: i for i, token in enumerate(tokens)}
    pre = fields["pre"]
    bpe = tk.Tokenizer(models.BPE(vocab=vocab, merges=pairs, ignore_merges=pre == "llama-bpe"))
    words = _PRE[pre]
    first = (
        pre_tokenizers.Split(tk.Regex(words), behavior="isolated")
        if words
        else pre_tokenizers.Digits(individual_digits=True)
    )
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not words)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([first, byte_level])
    bpe.decoder = decoders.ByteLevel()
    return bpe


def _spm(where: str, fields: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int]) -> Any:
    from pytest_greta.engine.tokenizer_spm import build

    scores = fields.get("scores")
    if not (isinstance(scores, list) and len(scores) == len(tokens) and all(isinstance(x, float) for x in scores)):
        raise ModelError("tokenizer", say("tokenizer.scores", path=where), say("mend.damaged"))
    return build(tokens, scores, types, bool(fields.get("add_space_prefix", True)))
