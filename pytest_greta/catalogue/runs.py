"""What ``greta report`` and ``greta compare`` say. English, Spanish."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    "runs.nothing": (
        "no {file} in {path}; give a folder that pytest wrote with --greta-artifacts",
        "no hay ningún {file} en {path}; indique una carpeta escrita por pytest con --greta-artifacts",
    ),
    "runs.twice": (
        "{suite}: {name} is there {count} times; the worst result counts",
        "{suite}: {name} aparece {count} veces; cuenta el peor resultado",
    ),
    "runs.missing": ("missing shards: {shards}", "faltan partes: {shards}"),
    "runs.mixed": (
        "the shards are of runs cut into different numbers of parts: {totals}",
        "las partes son de corridas divididas en cantidades distintas: {totals}",
    ),
    "runs.unreached": (
        "probes that an interrupted run did not reach: {count}",
        "sondas a las que una corrida interrumpida no llegó: {count}",
    ),
    "runs.unfinished": (
        "{path}: the run did not end, its report is missing; probes that it did not get to are not here",
        "{path}: la corrida no terminó, falta su informe; las sondas a las que no llegó no están aquí",
    ),
    "runs.bad_shard": (
        "GRETA_SHARD={value} is no shard; expected NUMBER/TOTAL, such as 2/3",
        "GRETA_SHARD={value} no es una parte; se esperaba NÚMERO/TOTAL, como 2/3",
    ),
    "runs.worse": ("worse: {count}", "peor: {count}"),
    "runs.incomparable": ("cannot be compared: {count}", "no se puede comparar: {count}"),
    "runs.only_before": ("only in A: {count}", "solo en A: {count}"),
    "runs.only_after": ("only in B: {count}", "solo en B: {count}"),
    "runs.better": ("better: {count}", "mejor: {count}"),
    "runs.same": ("unchanged: {count}", "sin cambios: {count}"),
    "runs.more": ("and {count} more", "y {count} más"),
}
