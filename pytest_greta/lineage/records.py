"""A record of GRETA's forms ``stage_trace``, ``stage_logits`` and ``metric`` as what pairing needs of it."""

from __future__ import annotations

import math
import struct
from array import array
from typing import Any, NamedTuple

from pytest_greta.lineage import attention
from pytest_greta.lineage.attention import Scores
from pytest_greta.lineage.parsing import LineError

HASHED = 256
"""Elements that a hash covers at most."""
_LONGEST = 4096
"""Characters of an id."""
_REMEMBERED = 64


class Record(NamedTuple):
    """``width``: elements of the row, None where the writer left it out. ``sample``: the printed values, float32 bytes.
    ``state``: live, zero or constant. ``call``: what two calls of an engine do not share."""

    form: str
    prompt: str
    phase: str
    point: str
    layer: int
    position: int
    token: int | None
    logical: int | None
    width: int | None
    hash: int | None
    sample: bytes
    finite: bool
    state: str
    call: tuple[Any, ...]
    scores: tuple[Scores, ...] = ()

    @property
    def is_prefill(self) -> bool:
        return self.phase.startswith("prefill")


def read(record: dict[str, Any]) -> Record:
    """Raises ``LineError``."""
    event = record.get("event")
    if event == "attention_scores" or (event is None and "attention_scores" in record):
        return _only_scores(record)
    if event == "stage_trace":
        return _row(record, "stage_trace", "prompt_id", record.get("point"), "sample", _whole(record, "token_index"))
    if event == "stage_logits":
        return _logits(record)
    if "metric" in record:
        name = record.get("tensor_name", record["metric"])
        width = _maybe(record, "bytes_size")
        return _row(record, "metric", "prompt", name, "data", None, None if width is None else width // 4)
    raise LineError("line_event", event=str(event)[:80])


def _row(
    record: dict[str, Any], form: str, prompt: str, point: Any, values: str, index: int | None, width: int | None = None
) -> Record:
    sample, total = _numbers(record, values)
    if form == "stage_trace":
        width = _maybe(record, "stride_elems")
    counted = (_maybe(record, "nan") or 0) + (_maybe(record, "inf") or 0)
    return _record(
        record,
        form,
        prompt,
        point,
        width,
        _floats(sample),
        not counted and math.isfinite(total),
        _state(sample, record.get("nz_count")),
        (index, *(_short(record.get(name)) for name in ("seq_len", "seq_len_used", "ptr", "src_ptr", "offset_bytes"))),
    )


def _logits(record: dict[str, Any]) -> Record:
    names = ("min", "max", "mean", "top1_id", "top1_logit", "top2_id", "top2_logit")
    values = [float(_number(record, name)) for name in names if name in record]
    dead = "min" in record and record["min"] == record.get("max")
    state = "live" if not dead else "constant" if record["min"] else "zero"
    finite, call = all(map(math.isfinite, values)), (_short(record.get("seq_len")), _short(record.get("ptr")))
    width = _maybe(record, "vocab")
    return _record(
        record, "stage_logits", "prompt_id", "logits", width, array("d", values).tobytes(), finite, state, call
    )


def _record(
    record: dict[str, Any],
    form: str,
    prompt: str,
    point: Any,
    width: int | None,
    sample: bytes,
    finite: bool,
    state: str,
    call: tuple[Any, ...],
) -> Record:
    phase = _text(record, "phase")
    if not phase.startswith(("prefill", "decode")):
        raise LineError("line_phase", found=phase[:80])
    if type(point) is not str or len(point) > _LONGEST:
        raise LineError("line_text", name="point", found=repr(point)[:80])
    return Record(
        form,
        _text(record, prompt),
        phase,
        point,
        _whole(record, "layer", -1, 1 << 20),
        _whole(record, "pos_id"),
        _maybe(record, "token_id"),
        _maybe(record, "logical_tok_idx"),
        width,
        _maybe(record, "hash"),
        sample,
        finite,
        state,
        call,
        attention.read(record),
    )


def _only_scores(record: dict[str, Any]) -> Record:
    """A record of the scores of a layer and no row."""
    prompt = "prompt_id" if "prompt_id" in record else "prompt"
    named = {**record, "pos_id": record.get("pos_id", 0)}
    return _record(named, "attention_scores", prompt, "attention_scores", None, b"", True, "live", ())


def _floats(sample: list[float]) -> bytes:
    """float32, three times as fast as an array would take them: half of a record's time went there."""
    try:
        return struct.pack(f"{len(sample)}f", *sample)
    except OverflowError:  # beyond float32: an array has infinity there
        return array("f", sample).tobytes()


def _short(value: Any) -> Any:
    """What a record is remembered by is small, whatever stands in the file."""
    return value if type(value) is int or value is None else repr(value)[:_REMEMBERED]


def _state(sample: list[float], nonzero: Any) -> str:
    if nonzero == 0:
        return "zero"
    if len(sample) < 2 or sample[-1] != sample[0] or sample.count(sample[0]) != len(sample):
        return "live"
    return "constant" if sample[0] else "zero"


def _numbers(record: dict[str, Any], name: str) -> tuple[list[float], float]:
    values = record.get(name)
    try:
        if type(values) is list and values:
            return values, sum(values)
    except (TypeError, ValueError, OverflowError):
        pass
    raise LineError("line_numbers", name=name, found=repr(values)[:80])


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if type(value) is not str or len(value) > _LONGEST:
        raise LineError("line_text", name=name, found=repr(value)[:80])
    return value


def _number(record: dict[str, Any], name: str) -> float:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise LineError("line_number", name=name, found=repr(value)[:80])
    return value


def _whole(record: dict[str, Any], name: str, least: int = 0, most: int = 1 << 40) -> int:
    value = record.get(name)
    if type(value) is not int or not least <= value <= most:
        raise LineError("line_whole", name=name, found=repr(value)[:80])
    return value


def _maybe(record: dict[str, Any], name: str) -> int | None:
    value = record.get(name)
    return None if value is None else _whole(record, name, 0, (1 << 64) - 1)
