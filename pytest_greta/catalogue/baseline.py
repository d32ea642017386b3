"""What is said of baselines. English, Spanish."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    "baseline.file": ("a baseline", "una línea base"),
    "baseline.needed": (
        "{source}: there is nothing to update without --greta-baseline=FILE",
        "{source}: no hay nada que actualizar sin --greta-baseline=ARCHIVO",
    ),
    "baseline.absent": (
        "{source}: there is no baseline at {path}; --greta-update-baseline makes it",
        "{source}: no hay ninguna línea base en {path}; --greta-update-baseline la crea",
    ),
    "baseline.is_folder": (
        "{source}: {path} is a folder; a name that ends in .yaml is one suite's file",
        "{source}: {path} es una carpeta; un nombre que termina en .yaml es el archivo de una suite",
    ),
    "baseline.is_file": (
        "{source}: {path} is a file; expected FILE.yaml, or a folder that holds a SUITE{name} each",
        "{source}: {path} es un archivo; se esperaba ARCHIVO.yaml, o una carpeta con un SUITE{name} por suite",
    ),
    "baseline.one_suite": (
        "{source}: a file holds one suite, and this is a run of {suites} (in {path}: {held}); give a folder, or select "
        "the cases of one suite",
        "{source}: un archivo contiene una suite, y esta es una corrida de {suites} (en {path}: {held}); indique una "
        "carpeta, o seleccione los casos de una suite",
    ),
    "baseline.version": (
        "schema {found} is not known; expected {known}: it was written by another version of pytest-greta",
        "el schema {found} es desconocido; se esperaba {known}: lo escribió otra versión de pytest-greta",
    ),
    "baseline.twice": (
        "{probe} is there twice, first in line {line}; keep one",
        "{probe} está dos veces, la primera en la línea {line}; deje una sola",
    ),
    "baseline.at": ("key {key}: {problem}", "clave {key}: {problem}"),
    "baseline.a_verdict": (
        "a status ({statuses}) and a scenario",
        "un estado ({statuses}) y un escenario",
    ),
    "baseline.a_rho": ("a finite number from 0 up", "un número finito desde 0"),
    "baseline.verdict": ("it was {before}, it is {after}", "era {before}, es {after}"),
    "baseline.rho": (
        "rho of {stage} is {rho}, more than twice the {before} that is the largest of {count} seeds",
        "rho de {stage} es {rho}, más del doble de {before}, el mayor de {count} semillas",
    ),
    "baseline.bytes": (
        "the bytes of {stage} are others, on the same machine, from the same version",
        "los bytes de {stage} son otros, en la misma máquina y con la misma versión",
    ),
    "baseline.stale": (
        "{path}: entries that no case answers to: {count} ({probes}); --greta-update-baseline removes them",
        "{path}: entradas a las que ningún caso corresponde: {count} ({probes}); --greta-update-baseline las quita",
    ),
    "baseline.nothing": (
        "{path}: nothing was recorded, because no probe that it could hold passed; it stays as it was",
        "{path}: no se registró nada, porque no pasó ninguna sonda que registrar; queda como estaba",
    ),
    "baseline.written": (
        "{path} written: {entries} entries ({new} new, {changed} changed, {removed} removed)",
        "{path} escrito: {entries} entradas ({new} nuevas, {changed} cambiadas, {removed} quitadas)",
    ),
    "baseline.added": ("  {probe}: new, {verdict}", "  {probe}: nueva, {verdict}"),
    "baseline.removed": ("  {probe}: removed, was {verdict}", "  {probe}: quitada, era {verdict}"),
    "baseline.wider": (
        "    rho of {stage}: {before} -> {after}, wider",
        "    rho de {stage}: {before} -> {after}, más amplio",
    ),
    "baseline.narrower": (
        "    rho of {stage}: {before} -> {after}, narrower",
        "    rho de {stage}: {before} -> {after}, más estrecho",
    ),
    "baseline.other_hashes": ("    hashes of {stage}: others", "    hashes de {stage}: otros"),
}
