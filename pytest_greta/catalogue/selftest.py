"""What ``greta selftest`` says. English, Spanish."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    # usage
    "selftest.no_journal": (
        "{path} is not the journal of a study; name another file with --resume",
        "{path} no es el diario de un estudio; indique otro archivo con --resume",
    ),
    "selftest.other_study": (
        "{path} is the journal of another study ({key}: {there} there, {here} here); give the same options, or"
        " another file",
        "{path} es el diario de otro estudio ({key}: {there} allí, {here} aquí); dé las mismas opciones, u otro"
        " archivo",
    ),
    "selftest.bad_line": (
        "{path}:{line}: not a run of this study; the file is damaged, begin another",
        "{path}:{line}: no es una corrida de este estudio; el archivo está dañado, comience otro",
    ),
    "selftest.no_summary": (
        "{path} holds no summary of a study; expected what --json wrote",
        "{path} no contiene el resumen de un estudio; se esperaba lo que escribe --json",
    ),
    "selftest.no_run": (
        "{id} is no run of this study; expected {first} to {last}",
        "{id} no es una corrida de este estudio; se esperaba de {first} a {last}",
    ),
    "selftest.markdown_from": (
        "--markdown goes with --from: the page of a finished study",
        "--markdown va con --from: la página de un estudio terminado",
    ),
    "selftest.whole": (
        "expected a whole number from {least} to {most}, got {got}",
        "se esperaba un entero de {least} a {most}, se encontró {got}",
    ),
    # on the way
    "selftest.begin": (
        "{faults} fault runs, {curve} below the smallest magnitudes, {benign} healthy runs; seed {seed}; {jobs}"
        " processes",
        "{faults} corridas con fallo, {curve} bajo las magnitudes mínimas, {benign} corridas sanas; semilla {seed};"
        " {jobs} procesos",
    ),
    "selftest.backend": (
        "through {backend} and its faulty twin, with the schedules that it has",
        "por {backend} y su gemela defectuosa, con los recorridos que tiene",
    ),
    "selftest.backend_short": (
        "through {backend} and its faulty twin, with the schedules that it has and at most {rows} rows",
        "por {backend} y su gemela defectuosa, con los recorridos que tiene y {rows} filas como máximo",
    ),
    "selftest.resumed": ("{count} runs are in {path} already", "{count} corridas ya están en {path}"),
    "selftest.no_real": (
        "{model} is left out: it is not in the cache (greta model pull {model})",
        "se omite {model}: no está en la caché (greta model pull {model})",
    ),
    "selftest.progress": (
        "{done} of {all} runs, {odd} not as they should be, {left} to go",
        "{done} de {all} corridas, {odd} no como debían, faltan {left}",
    ),
    "selftest.stopped": (
        "interrupted after {done} of {all} runs",
        "interrumpido tras {done} de {all} corridas",
    ),
    "selftest.go_on": ("to go on: the same command again", "para seguir: el mismo comando otra vez"),
    "selftest.lost": (
        "these runs are lost; with --resume FILE a study goes on where it stopped",
        "estas corridas se pierden; con --resume ARCHIVO un estudio sigue donde se detuvo",
    ),
    # tables
    "selftest.faults": ("Faults", "Fallos"),
    "selftest.faults_note": (
        "From the smallest magnitude of its fixture on, every run must be found, at the right stage and layer and with"
        " the right scenario. The last two columns: what the fixed tolerances flag of the same runs.",
        "Desde la magnitud mínima de su montaje, toda corrida debe hallarse, en la etapa y la capa correctas y con el"
        " escenario correcto. Las dos últimas columnas: lo que señalan las tolerancias fijas en las mismas corridas.",
    ),
    "selftest.kind": ("kind", "tipo"),
    "selftest.runs": ("runs", "corridas"),
    "selftest.found": ("found", "hallados"),
    "selftest.stage": ("right stage", "etapa"),
    "selftest.layer": ("right layer", "capa"),
    "selftest.scenario": ("right scenario", "escenario"),
    "selftest.total": ("all", "todos"),
    "selftest.magnitudes": ("Smallest magnitudes", "Magnitudes mínimas"),
    "selftest.magnitudes_note": (
        "Stated: from there on every run must be found. Seen: the least that was found in this study, by activation"
        " type.",
        "Declarada: desde ahí toda corrida debe hallarse. Vista: la menor que se halló en este estudio, por tipo de"
        " activación.",
    ),
    "selftest.stated": ("{dtype} stated", "{dtype} declarada"),
    "selftest.seen": ("{dtype} seen", "{dtype} vista"),
    "selftest.curve": ("Detection curve", "Curva de detección"),
    "selftest.curve_note": (
        "Found of planted, by magnitude over the smallest stated, half a decade a column, from 1/100 to 100. Left of"
        " the bar nothing is promised.",
        "Hallados de inyectados, por magnitud sobre la mínima declarada, media década por columna, de 1/100 a 100. A la"
        " izquierda de la barra nada se promete.",
    ),
    "selftest.variant": ("variant", "variante"),
    "selftest.share": ("share found", "proporción hallada"),
    "selftest.below": ("below", "debajo"),
    "selftest.above": ("from there on", "desde ahí"),
    "selftest.benign": ("Healthy runs", "Corridas sanas"),
    "selftest.benign_note": (
        "Nothing is planted: whatever does not pass is a false alarm. Suspects passed after their reruns.",
        "No se inyecta nada: lo que no pasa es una falsa alarma. Los sospechosos pasaron tras repetirse.",
    ),
    "selftest.model": ("model", "modelo"),
    "selftest.alarms": ("alarms", "alarmas"),
    "selftest.suspects": ("suspects", "sospechosos"),
    "selftest.rho": ("max rho", "rho máx."),
    "selftest.rate": (
        "False alarms: {alarms} of {runs}; with 95 % confidence the rate is below {limit}.",
        "Falsas alarmas: {alarms} de {runs}; con 95 % de confianza la tasa es menor que {limit}.",
    ),
    "selftest.baselines": ("Fixed tolerances, on the same runs", "Tolerancias fijas, en las mismas corridas"),
    "selftest.rule": ("rule", "regla"),
    "selftest.rule_greta": ("derived bounds (this project)", "cotas derivadas (este proyecto)"),
    "selftest.rule_logits": (
        "max dlogit <= 5e-3, p99 <= 1e-3, same top-1",
        "dlogit máx. <= 5e-3, p99 <= 1e-3, mismo top-1",
    ),
    "selftest.rule_close": ("assert_close on attn_out", "assert_close sobre attn_out"),
    "selftest.faults_found": ("faults found", "fallos hallados"),
    "selftest.false_alarms": ("false alarms", "falsas alarmas"),
    "selftest.odd": ("Not as it should be", "No como debía"),
    "selftest.odd_missed": ("missed", "no hallado"),
    "selftest.odd_misplaced": ("misplaced", "mal ubicado"),
    "selftest.odd_not_planted": ("nothing was planted", "no se inyectó nada"),
    "selftest.odd_alarm": ("false alarm", "falsa alarma"),
    "selftest.odd_error": ("did not end", "no terminó"),
    "selftest.one_not_run": ("not run", "no ejecutado"),
    "selftest.not_run": (
        "Not run: what the library does not have, runs and its reason",
        "No ejecutado: lo que la biblioteca no tiene, corridas y su razón",
    ),
    "selftest.more": ("and {count} more", "y {count} más"),
    "selftest.again": (
        "one of them again, in full: greta selftest --seed {seed} {size} --only {id}",
        "una de ellas otra vez, completa: greta selftest --seed {seed} {size} --only {id}",
    ),
    "selftest.clean": (
        "selftest passed: every fault found and rightly placed, no false alarm",
        "selftest aprobado: todo fallo hallado y bien ubicado, ninguna falsa alarma",
    ),
    "selftest.clean_but": (
        "selftest passed: every fault that was run was found and rightly placed, no false alarm; {count} runs were not"
        " run, because {backend} does not have what they need",
        "selftest aprobado: todo fallo ejecutado fue hallado y bien ubicado, ninguna falsa alarma; {count} corridas no"
        " se ejecutaron, porque {backend} no tiene lo que necesitan",
    ),
    "selftest.nothing": (
        "selftest FAILED: nothing was run, because {backend} does not have what these runs need",
        "selftest FALLIDO: no se ejecutó nada, porque {backend} no tiene lo que estas corridas necesitan",
    ),
    "selftest.failed": (
        "selftest FAILED: {odd} of {done} runs are not as they should be",
        "selftest FALLIDO: {odd} de {done} corridas no son como debían",
    ),
    "selftest.unfinished": ("not finished: {done} of {all} runs", "sin terminar: {done} de {all} corridas"),
    # the page
    "selftest.page_title": ("What the detector finds", "Lo que halla el detector"),
    "selftest.page_how": (
        "Generated from a study's figures, not typed: `greta selftest {size} --seed {seed} --json FILE`, then"
        " `greta selftest --from FILE --markdown`. Each fault run plants one variant of one kind, with rows, heads,"
        " layers, seeds, types, schedules and magnitudes drawn; magnitudes log-uniformly from the smallest"
        " stated to a hundred times it. Healthy runs draw tiles from 16 to 128, both directions, 1 to 8 splits,"
        " instruction sets, pages, ragged batches, chunks, padding, reuse, and lengths log-uniformly from 1 to {most}.",
        "Generado de las cifras de un estudio, no escrito a mano: `greta selftest {size} --seed {seed} --json"
        " ARCHIVO` y después `greta selftest --from ARCHIVO --markdown --lang es`. Cada corrida con fallo inyecta una"
        " variante de un tipo, con filas, cabezas, capas, semillas, tipos numéricos, recorridos y magnitudes al azar;"
        " las magnitudes, de modo log-uniforme desde la mínima declarada hasta cien veces esa. Las corridas"
        " sanas sortean tiles de 16 a 128, ambas direcciones, de 1 a 8 splits, juegos de instrucciones, páginas,"
        " lotes irregulares, fragmentos, relleno, reutilización y longitudes log-uniformes de 1 a {most}.",
    ),
    "selftest.page_where": (
        "pytest-greta {version}, instruction sets {isas}, {cpu}.",
        "pytest-greta {version}, juegos de instrucciones {isas}, {cpu}.",
    ),
    "selftest.page_where_else": (
        "pytest-greta {version}, through {backend} and its faulty twin, with the schedules that it has; {cpu}.",
        "pytest-greta {version}, por {backend} y su gemela defectuosa, con los recorridos que tiene; {cpu}.",
    ),
    "selftest.page_claims": (
        "A fault counts as found where the verdict is the one that its kind calls for, and as rightly placed where"
        " layer and stage are those at which it was planted. A suspect that stays one after its reruns is a"
        " mismatch, and counts as found. Below the smallest magnitude nothing is promised, and the curve shows"
        " what is seen there.",
        "Un fallo cuenta como hallado cuando el veredicto es el que corresponde a su tipo, y como bien ubicado cuando"
        " capa y etapa son aquellas en que se inyectó. Un sospechoso que lo sigue siendo tras repetirse es una"
        " discrepancia, y cuenta como hallado. Bajo la magnitud mínima nada se promete, y la curva muestra lo"
        " que allí se ve.",
    ),
}
