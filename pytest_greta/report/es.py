"""El catálogo en español. Una entrada por cosa dicha; ``en.py`` tiene las mismas claves y los mismos campos."""

from __future__ import annotations

CATALOGUE: dict[str, str] = {
    # palabras
    "word.pattern": "patrón",
    "word.tiny_row": "fila de norma diminuta",
    "word.page": "bloque: página",
    "word.between": "entre",
    "word.true": "verdadero",
    "word.false": "falso",
    "word.not_measured": "no medido",
    "word.none": "ninguno",
    "word.expected": "esperado",
    "word.unexpected": "inesperado",
    "word.unasserted": "no afirmado",
    "word.inconclusive": "no concluyente",
    "word.open": "sin decidir",
    "word.both_phases": "ambas",
    "word.no_head": "ninguna",
    "word.engine": "el arnés",
    "word.passed": "aprobada",
    "word.failed": "fallida",
    "word.xfailed": "xfail",
    "word.origin": "origen",
    "word.derived": "derivado",
    "word.mend": "para ejecutarlos",
    "word.rho_first": "primer fallo",
    "word.or": "o",
    "word.nothing": "nada",
    "word.not_run": "no ejecutado",
    "word.case": "caso",
    "word.mode": "modo",
    "word.verdict": "veredicto",
    "word.first_failure": "primer fallo",
    "word.place": "lugar",
    "word.max_rho": "rho máx",
    "word.dlogit": "dlogit",
    "word.layer": "capa",
    "word.stage": "etapa",
    "word.phase": "fase",
    "word.position": "posición",
    "word.head": "cabeza",
    "word.status": "estado",
    "word.scenario": "escenario",
    "word.finding": "hallazgo",
    "word.reason": "motivo",
    "word.detail": "detalle",
    "word.worst": "peor elemento",
    "word.stored": "guardado",
    "word.reference": "referencia",
    "word.error": "error",
    "word.bound": "cota",
    "word.hashes": "hashes",
    "word.causes": "causas probables",
    "word.evidence": "evidencia",
    "word.reproduce": "reproducir",
    "word.indicator": "indicador",
    "word.indicators": "indicadores",
    "word.machine": "Máquina y versiones",
    "word.suite": "suite",
    "word.variant": "variante",
    "word.outcome": "resultado",
    "word.path": "camino",
    "word.library": "biblioteca",
    "word.kernel": "kernel",
    "word.calls": "llamadas",
    "word.source": "contado por",
    "word.date": "Fecha",
    "word.author": "Autor",
    "word.run": "Corrida",
    "word.hypothesis": "hipótesis",
    "word.prompt": "prompt",
    "word.tokens": "tokens",
    "word.fault": "fallo inyectado",
    "word.margin": "margen del top-1",
    "word.top1": "top-1 coincide",
    "word.min": "mín",
    "word.max": "máx",
    "word.mean": "media",
    "word.cases": "casos",
    "word.library_source": "biblioteca",
    "word.declared_source": "declarado, llamadas contadas por el arnés",
    # resumen en la terminal
    "summary.folded": "sin mostrar: {count} más (aprobadas: {passed}, fallidas: {failed})",
    "summary.counts": "sondas: {total} (aprobadas: {passed}, fallidas: {failed}, no ejecutadas: {not_run})",
    "summary.counts_xfailed": (
        "sondas: {total} (aprobadas: {passed}, fallidas: {failed}, fallidas como dice su marca xfail: {xfailed}, "
        "no ejecutadas: {not_run})"
    ),
    "summary.expected": (
        "discrepancias esperadas: {count} {scenario} en modo as_designed: allí el drift se propaga, por diseño"
    ),
    "summary.expected_faults": "fallos inyectados hallados donde se plantaron: {count}",
    "summary.unasserted": "discrepancias que ninguna prueba afirmó: {count} (no afirmado)",
    "summary.suspect": "hallazgo SUSPECT, {count}: fuera solo del primer nivel de la cota, dentro del segundo",
    "summary.canary": "canario: en {found} de {due} sondas se hallaron todos los fallos plantados",
    "summary.canary_off": "canario: apagado ({count} sondas); nada muestra en esta corrida que hubiera podido fallar",
    "summary.canary_none": "canario: ninguno aplicable ({count} sondas)",
    "summary.schedule": "hallazgo SCHEDULE, {count}: {detail}",
    "summary.nondeterministic": "hallazgo NONDETERMINISTIC, {count}: al repetir la atención cambiaron los bytes",
    "summary.companions": (
        "no se juzgan en todas las capas: los acompañantes y filas de relleno de {count} sondas, demasiado largos para "
        "guardarlos; la clave layers elige dónde"
    ),
    "summary.baseline": "línea base: {compared} sondas comparadas, {worse} peores, {better} mejores",
    "summary.baseline_alien": (
        "línea base de otra configuración ({differs}): de {count} sondas solo se comparó si están bien o mal"
    ),
    "summary.baseline_changed": "desde la línea base ({differs}): {count} sondas, comparadas igualmente",
    "summary.baseline_better": "mejores que la línea base: {count} ({names}); --greta-update-baseline lo registra",
    "summary.baseline_new": (
        "no están en la línea base: {count} ({names}), sin comparar; --greta-update-baseline las agrega"
    ),
    "summary.indicators": "indicadores (sondas sin fallo inyectado)",
    "summary.indicators_note": (
        "La consistencia de hash de K y V puede ser falsa en un PASS: el redondeo difiere entre los dos caminos. "
        "K-V alineados no: las filas leídas deben ser las escritas, y correctas."
    ),
    "summary.not_run": "no ejecutado: {count}, {reason}",
    "summary.mend": "para ejecutarlos: {command}",
    "summary.inconclusive_alike": "no concluyentes, {count} sondas: {reason}",
    "summary.inconclusive": "no concluyente: {case} {mode}: {reason}",
    "summary.more_failures": "{count} fallos más; véase el resumen del paso",
    "summary.cut": "No cupieron otras {count} filas; están todas en los artefactos.",
    "summary.artifacts": "artefactos: {path}",
    "indicator.k": "consistencia de hash de K",
    "indicator.v": "consistencia de hash de V",
    "indicator.kv": "K-V alineados",
    "hypothesis.H0": "H0 se mantiene: todo el drift visto es estructural (sondas juzgadas: {judged})",
    "hypothesis.H1": "H0 rechazada, H1: sondas con una discrepancia real: {rejecting} de {judged}",
    "hypothesis.p": (
        "H0 se rechaza solo por p (sondas juzgadas: {judged}): ninguna cota se excede, pero el azar difícilmente llega "
        "tan cerca. El código de salida no cambia"
    ),
    "hypothesis.open": "H0 / H1 sin decidir: no se pudo concluir nada",
    "hypothesis.none": "ninguna sonda cuenta para H0 / H1: todas tienen un fallo inyectado",
    "hypothesis.bytes": "H0 / H1 sin decidir: los bytes difieren y as_designed no puede decir por qué; kv_aligned sí",
    "hypothesis.faults": "las sondas con un fallo inyectado no cuentan para H0 / H1",
    "hypothesis.p_value": "p bajo H0: {p}, sobre {elements} elementos con cota estadística",
    "hypothesis.even": (
        "prueba de signo de la ganancia: ninguna etapa se inclina (menor p {p}, tras Holm sobre {stages} etapas)"
    ),
    "hypothesis.leans": (
        "prueba de signo de la ganancia: {stage} se inclina, {positive} casos por encima y {negative} por debajo de la "
        "referencia (ganancia mediana {median}, p {p} tras Holm); no rechaza nada: el hardware que trunca también se "
        "inclina"
    ),
    # una frase por veredicto
    "verdict.ALIGNED": "prefill y decode coinciden byte a byte",
    "verdict.STRUCTURAL_DRIFT": "prefill y decode difieren solo por el redondeo al que cada etapa tiene derecho",
    "verdict.REAL_MISMATCH": "discrepancia real en la capa {layer}, etapa {stage}, fase {phase}: no es redondeo",
    "verdict.KV_MISALIGNMENT": (
        "K y V son correctos, la atención no: la capa {layer}, etapa {stage}, fase {phase} excede el redondeo"
    ),
    "verdict.ATTENTION_COMPUTATION_MISMATCH": (
        "los bytes de prefill y decode difieren por primera vez en la capa {layer}, etapa {stage}"
    ),
    "verdict.DRIFT_REGRESSION": "peor que la línea base, en la capa {layer}, etapa {stage}, fase {phase}: {worse}",
    "verdict.INCONCLUSIVE": "no se puede concluir nada: {reason}",
    "verdict.not_run": "no ejecutado: {reason}",
    "failure.baseline": "peor que la línea base {file}: {worse}",
    "failure.unmet": "se esperaba {wanted}; se encontró {found}",
    "failure.missed": "el veredicto no es el que el caso espera",
    "failure.contract": "contrato {contract} roto: los bytes de los dos caminos difieren",
    "failure.contract_at": (
        "contrato {contract} roto: la primera etapa que difiere es {stage} en la capa {layer}, {left} frente a "
        "{right}, posición {position}"
    ),
    "failure.contract_schedule": "contrato {contract} roto: las fases redondean P con schedules distintos",
    "failure.contract_repeatable": "contrato {contract} roto: al repetir una llamada de atención los bytes cambiaron",
    "failure.contract_batch_invariant": (
        "contrato {contract} roto: sin el resto del lote, la atención dio otros bytes"
    ),
    "failure.contract_head": "contrato {contract} roto",
    "failure.between": "{after} y {stage}",
    "failure.head_layer": "capa {layer}",
    "failure.head_stage": "etapa {stage}",
    "failure.limit": "{rho} veces la cota (el límite es 1)",
    "failure.where_model": "fuera de las capas",
    "failure.compared": "{stages} etapas, {rows} filas, {elements} elementos comparados; pesos: {weights}",
    "failure.canary": "canario: {canary}; caché a cargo de: {cache}",
    # declaraciones y lo que cuestan
    "declared.price": (
        "{phase} declara {name} {value}: la cota de {stage} es {median} veces más ancha (mediana; {worst} en su peor "
        "elemento)"
    ),
    "declared.widest": (
        "{library} declara {name} {value} en {phase}: cotas hasta {median} veces más anchas ({stage}, mediana)"
    ),
    "declared.sees": "menor ganancia que se vería: {gains}",
    "report.prices": "Lo que cuestan las declaraciones",
    "report.price_note": (
        "La cota con la declaración sobre la cota sin ella: la mediana de los elementos revisados de la capa del "
        "medio, y lo mismo en el elemento de mayor rho. A una declaración se le cree hasta donde llega su rango: lo "
        "que excusa, ninguna revisión lo ve."
    ),
    "report.sees": "Menor ganancia visible",
    "report.sees_note": (
        "Ganancia común a todos los valores de una etapa con la que se esperan 3 elementos fuera de su cota, por tipo "
        "del caso: de la sonda más sensible a la menos sensible. Las menores pasan."
    ),
    "word.declaration": "declaración",
    "word.value": "valor",
    "word.at_worst": "en el peor",
    # los fallos que planta el propio arnés, y las repeticiones de lo sospechoso
    "canary.off": "apagado",
    "canary.inject": "ninguno, el fallo inyectado es su propia prueba",
    "canary.none": "ninguno aplicable",
    "canary.found": "{found} de {planted} hallados",
    "canary.missed": "no hallado: {fault} ({phase}, capa {layer}), debía verse en {stage}, se halló: {said}",
    "canary.skipped": "sin plantar: {fault} ({why})",
    "canary.no_rope": "ninguna capa tiene RoPE",
    "canary.no_kv_heads": "hay una sola cabeza kv",
    "canary.no_same_type": "la caché guarda otro tipo que el que recibe",
    "canary.no_change": "aquí no cambiaría nada",
    "canary.not_finite": "la capa anterior dio NaN o infinito, como en el caso mismo",
    "rerun.ok": "repetición con tokens al azar (semilla {seed}): capa {layer} {stage} limpia, rho {rho}",
    "rerun.suspect": (
        "repetición con tokens al azar (semilla {seed}): capa {layer} {stage} sospechosa otra vez, rho {rho}"
    ),
    "rerun.definite": (
        "repetición con tokens al azar (semilla {seed}): capa {layer} {stage} fuera de los dos niveles, rho {rho}"
    ),
    "rerun.unclear": "repetición con tokens al azar (semilla {seed}): no concluyente",
    "rerun.wrong": "{rerun}; allí está mal sin duda: {wrong}",
    "failure.further": "otras llamadas de atención: repetida en {repeats} capas, con q = 0 en {zeros}",
    "failure.path": "{path} ({phase}): {library} / {kernel}, {calls} llamadas, {source}",
    # cómo se llegó al token, cuando no es con un prefill y un token decodificado
    "way.cut": "el prompt de {whole} tokens se cortó a {tokens}: N = {n}",
    "way.chunks": "en prefill se ejecutaron {count} fragmentos: {sizes} filas",
    "way.reuse": (
        "las primeras {rows} filas vienen de un pedido anterior, tras el cual se decodificaron y recortaron otros"
        " {rolled_back} tokens"
    ),
    "way.cache_groups": (
        "caché {name}: filas en {bits} bits, grupos de {group} elementos; se leen a menos de medio paso"
    ),
    "way.cache_fp8": ("caché {name}: filas en e4m3 con una escala, que fija el prefill; se leen dentro de su redondeo"),
    "way.left_pad": "hay {rows} filas de relleno antes del prompt",
    "way.batch": "acompañantes en el lote: {count}, con {rows} filas al final",
    "way.beside": (
        "los acompañantes y filas de relleno se juzgan solo en {layers} de {of} capas: demasiado largos para "
        "guardarlos en más; la clave layers elige en cuáles"
    ),
    "way.decode": "en decode se ejecutaron {count} llamadas: {sizes} filas",
    "way.size": "{count} de {rows}",
    "failure.no_kernels": "no se vio ejecutar ningún kernel",
    "failure.more": "y {count} más",
    # por qué no se puede concluir nada: las claves de verdict.Breach
    "breach.path_missing": "el camino {path} no se ejecutó",
    "breach.tokens_differ": "los dos caminos recibieron tokens distintos: {left} y {right}",
    "breach.rows_differ": "los dos caminos usaron filas distintas: {left} y {right}",
    "breach.positions_differ": "los dos caminos se planificaron en posiciones distintas: {left} y {right}",
    "breach.kernel_not_run": (
        "camino {path}: el kernel {kernel} de {library} no corrió en la fase {phase} (visto: {seen})"
    ),
    "breach.other_library": "camino {path}: corrió la biblioteca {seen} en la fase {phase}; el caso nombra {library}",
    "breach.other_kernel": "camino {path}: corrió el kernel {seen}; {library} declara {kernel} para la fase {phase}",
    "breach.too_few_calls": "camino {path}: el kernel {kernel} se llamó {seen} veces; corresponden al menos {expected}",
    "breach.one_kernel": (
        "{library}: el kernel {kernel} corrió en ambas fases, y la biblioteca no declara que sean uno solo"
    ),
    "breach.stage_missing": "camino {path}, capa {layer}: la etapa {stage} no se trazó, o está vacía",
    "breach.dead_tap": "la etapa {stage} es toda ceros en cada capa del camino {path}, y no en otros: una toma muerta",
    "breach.same_buffer": (
        "capa {layer}, etapa {stage}: el camino {path} entregó el mismo búfer que el prefill completo"
    ),
    "breach.other_dtype": "camino {path}, capa {layer}: la etapa {stage} es {seen}; el caso nombra {expected}",
    "breach.not_judged": "camino {path}, capa {layer}: la etapa {stage} se trazó y no se pudo juzgar",
    "breach.fault_not_planted": (
        "el fallo {fault} no cambió nada: su capa, cabeza, posición, fase o magnitud deja cada argumento como estaba"
    ),
    "breach.declares_less": (
        "{library} declara {declared} bits en {phase}, y el caso pide {name}: {least} como mínimo"
    ),
    "breach.declares_coarser": (
        "{library} declara {says} {declared} en {phase}, y el caso pide {name}: {most} como máximo"
    ),
    "breach.canary_missed": (
        "canario: se plantó el fallo {fault} en la capa {layer} ({phase}), que debía verse en {stage}; se halló: "
        "{said}. Aquí no se puede confiar en el veredicto"
    ),
    "breach.unreadable": "registro ilegible en {where}: {error}",
    "breach.no_records": "no hay registros de traza en {path}",
    "breach.no_traces": (
        "no hay registros de traza en {path}; ejecute antes pytest con --greta-artifacts=DIR y --greta-trace=stats "
        "(o full)"
    ),
    "breach.no_counterpart": "{layer}/{stage} fila {position} no tiene contraparte: el camino {path} no la registró",
    "breach.no_rho": "ningún registro lleva rho; ejecute con --greta-trace stats o full en modo kv_aligned",
    "breach.hash_algo": "los dos caminos usan algoritmos de hash distintos ({left}, {right})",
    "breach.duplicate": "dos registros distintos para {layer}/{stage} fila {position} en el camino {path}",
    "breach.no_kernels": "camino {path}: no se registró ningún kernel",
    "breach.no_sidecar": (
        "{path} no tiene archivo .safetensors: solo una traza escrita con --greta-trace full se puede verificar de "
        "nuevo"
    ),
    "breach.other_weights": "la traza se grabó con los pesos {recorded}; el modelo indicado tiene {given}",
    "breach.line_long": "{where}: la línea supera {limit} bytes; se omite",
    "breach.file_cut": "{where}: el archivo no se puede seguir leyendo: {error}",
    "breach.line_object": "{where}: no es un objeto JSON",
    "breach.line_json": "{where}: no es JSON: {error}",
    "breach.line_twice": "{where}: la clave {name} está dos veces",
    "breach.line_event": "{where}: el evento {event} no es ninguno de los de GRETA",
    "breach.line_phase": "{where}: phase es {found}; se esperaba prefill.. o decode..",
    "breach.line_text": "{where}: {name} es {found}; se esperaba un texto",
    "breach.line_whole": "{where}: {name} es {found}; se esperaba un entero dentro de su rango",
    "breach.line_number": "{where}: {name} es {found}; se esperaba un número",
    "breach.line_numbers": "{where}: {name} es {found}; se esperaba una lista de números",
    "breach.line_prompts": "{where}: más de {limit} prompts; divida la carpeta",
    "breach.lines_more": "{where} y quizá líneas posteriores tampoco se pudieron leer",
    "breach.records_disagree": (
        "{count} registros contradicen a uno anterior del mismo lugar; el primero: {point}, capa {layer}, {phase}, "
        "posición {position}"
    ),
    "breach.too_many_waiting": (
        "{count} registros no se guardaron, demasiados esperan contraparte; el primero: {point}, capa {layer}, {phase}"
    ),
    "breach.other_logical_token": (
        "{count} sin emparejar, otro token lógico (logical_tok_idx); el primero: {point}, capa {layer}, {phase}, "
        "posición {position}"
    ),
    "breach.dead_on_both": (
        "{count} filas son cero o constantes en ambas fases; la primera: {point}, capa {layer}, {phase}, posición "
        "{position}"
    ),
    "breach.hash_against_sample": (
        "{count} pares tienen hashes iguales y otros valores, así que uno de los dos es erróneo; el primero: {point}, "
        "capa {layer}, {phase}, posición {position}"
    ),
    "breach.unpaired_position": (
        "{count} sin emparejar, las posiciones difieren; el primero: {point}, capa {layer}, {phase} en la posición "
        "{position}, prefill en {other}"
    ),
    "breach.unpaired_point": (
        "{count} sin emparejar, no hay registro de prefill de la misma forma, punto y capa; el primero: {point}, capa "
        "{layer}, {phase}, posición {position}"
    ),
    "breach.left_prefill": (
        "{count} registros de prefill sin registro de decode en su posición; el primero: {point}, capa {layer}, "
        "{phase}, posición {position}"
    ),
    "breach.unknown_points": "{count} registros de puntos desconocidos aquí, fuera del veredicto: {names}",
    "breach.hash_scope": (
        "hashes iguales dicen que los primeros {words} elementos de una fila son iguales, de filas de hasta {width}, "
        "y nada más"
    ),
    "breach.no_reference": (
        "los valores difieren y no hay referencia con que juzgarlos: primero en {stage}, capa {layer}, posición "
        "{position}, |d| hasta {apart} en lo impreso; una traza de --greta-trace full con --model sí se puede juzgar"
    ),
    "breach.phase_missing": "no hay ningún registro de la fase {phase}",
    "breach.no_attention": "no se comparó ninguna etapa posterior a la atención",
    "breach.printed_only": "{count} pares no tienen hash: valores impresos iguales no muestran bytes iguales",
    "breach.hash_narrow": (
        "los hashes cubren {words} elementos, las filas son más anchas o de ancho desconocido, y en la posición "
        "{position} no hay logits iguales que respondan por el resto"
    ),
    "breach.same_run": "cada par es el mismo registro salvo la fase: ¿la misma corrida dos veces?",
    "breach.metadata_unread": "no se puede leer {path}: {error}",
    "breach.metadata_apart": "metadata.json: {name} es {left} en prefill y {right} en decode: no es una misma corrida",
    "breach.logits_missing": "no existe {path}",
    "breach.logits_empty": "{path} no tiene ningún registro legible: la nada no es igual a nada",
    "breach.logits_unpaired": "el token decodificado {position} no está en los logits del prefill (ahí sigue: {other})",
    "breach.nothing_compared": "no se comparó nada",
    "breach.harness": (
        "capa {layer}, etapa {stage}: falla solo la llamada propia del arnés al kernel; ambas corridas son correctas"
    ),
    "breach.overflow": "capa {layer}, etapa {stage}: la referencia también desborda el tipo de almacenamiento",
    # causas probables
    "cause.embedding": "la fila de embedding de otro token, o una tabla de embedding leída con otra disposición",
    "cause.weight_route": "la matriz de pesos está traspuesta, o se usa otra matriz, en una de las dos fases",
    "cause.row": "una fila de entrada equivocada o vieja: la de otro token, o la última de otro paso",
    "cause.layer_input": "la capa no lee lo que escribió la capa anterior",
    "cause.norm": "el peso o el épsilon de la norma difiere del checkpoint, o se omite la norma",
    "cause.norm_eps": "el épsilon de la norma no es el del checkpoint",
    "cause.qk_norm": "la norma de q o de k se omite o usa otro peso en una fase",
    "cause.projection": "la proyección corre con menos precisión que la declarada, o le falta el sesgo",
    "cause.rope_position": (
        "RoPE gira según otra posición: un desplazamiento de uno, relleno contado, la posición de otra secuencia"
    ),
    "cause.rope_table": "RoPE usa otra base, otro escalado u otro factor de frecuencia que el checkpoint",
    "cause.rope_apply": "RoPE se omite, se aplica dos veces o empareja mal las mitades",
    "cause.cache_slot": "la fila se escribió en otra posición de la caché, o con otra disposición",
    "cause.cache_bytes": (
        "la caché no contiene los bytes que se escribieron: sobrescritos, otro tipo, o falta una conversión"
    ),
    "cause.cache_scale": "falta la escala de la caché de K o V, o es la de otra cabeza",
    "cause.stale": "se lee una fila vieja: un prefijo reutilizado, o una vuelta atrás que dejó filas",
    "cause.page": "la tabla de páginas se lee mal: otro bloque, un id de bloque truncado, o ninguna tabla",
    "cause.layer": "se lee la caché de otra capa: falta el desplazamiento de capa",
    "cause.sequence": "se lee la caché de otra secuencia del lote",
    "cause.kv_head": "la cabeza de consulta lee otra cabeza kv que la de su grupo",
    "cause.kv_len": "una clave de más o de menos: la longitud o la última fila está corrida en uno",
    "cause.mask": "la máscara causal está alineada a la esquina equivocada o corrida en uno",
    "cause.window": "la ventana de atención se ignora o está corrida en uno",
    "cause.softmax_scale": "la escala del softmax falta, se aplica dos veces o es otra",
    "cause.score_mod": "el soft cap, el sink o el sesgo de los puntajes se aplica mal",
    "cause.split_merge": "los resultados parciales de los splits de claves se combinan con pesos equivocados",
    "cause.tile_walk": "el bucle sobre los tiles de claves y valores saltea, repite o mezcla tiles",
    "cause.tail": "participan filas más allá de la longitud, incluso memoria sin inicializar",
    "cause.value_rows": "las filas de valores se leen de otro lugar que las de claves",
    "cause.residual": "la suma residual toma otra fila, o se suma dos veces o ninguna",
    "cause.ffn": "la activación es otra función, o gate y up están intercambiados",
    "cause.logits": (
        "la lectura final usa otra fila u otra matriz que la salida de la última capa y la cabeza de salida"
    ),
    "cause.configuration": "el plan, los pesos o los tokens difieren de su origen",
    "cause.nondeterministic": (
        "la misma llamada con las mismas entradas da otros bytes: una carrera, operaciones atómicas o un búfer aún sin"
        " llenar"
    ),
    "cause.drift_regression": (
        "dentro de la cota, y menos exacta que antes: otro kernel, compilador, biblioteca o máquina, menor "
        "precisión, o un error pequeño; si es lo buscado, --greta-update-baseline lo acepta"
    ),
    "cause.schedule": "P se redondea bloque a bloque, y el tile, la dirección o los splits no son los mismos",
    "cause.precision": (
        "la atención redondea más de lo declarado: otro acumulador, otro tipo de P o de V, o una pequeña ganancia"
    ),
    "cause.as_designed": "redondeo: las dos fases corren kernels distintos, y desde allí el drift se propaga",
    "cause.other_token": "las dos fases recibieron otro token en esta posición",
    "cause.constant_row": "la fila es un único valor constante en un solo camino: nunca se calculó",
    "cause.shape": "los dos caminos dan filas de forma distinta",
    "cause.not_finite": "un valor no es finito: un desborde, o memoria que nunca se escribió",
    "cause.library_not_finite": "la biblioteca devolvió NaN o inf",
    "cause.dead_row": "la fila es toda ceros en un solo camino: nunca se escribió",
    "who.decode_kernel": "responsable: el kernel de decode, que falla también sobre la caché de la corrida de prefill",
    "who.decode_run": (
        "responsables: el contenido de la caché, las longitudes o las posiciones de la corrida de decode; su kernel"
        " es correcto sobre la caché del prefill"
    ),
    "who.prefill_kernel": "responsable: el kernel de prefill",
    "who.both_separately": "responsables: ambas fases, cada una por su cuenta",
    "who.both": "responsables: ambas fases, del mismo modo",
    # which elements are wrong
    "pattern.rows_all": "todas las filas revisadas",
    "pattern.row_first": "solo la fila 0",
    "pattern.row_last": "solo la última fila ({row})",
    "pattern.row_one": "una sola fila ({row})",
    "pattern.rows_but_first": "todas las filas revisadas menos la 0",
    "pattern.rows_from": "todas las filas revisadas desde la {first}; la {right} es correcta",
    "pattern.rows_from_tile": "todas las filas revisadas desde la {first}, donde empieza un tile de {size}",
    "pattern.rows_from_page": "todas las filas revisadas desde la {first}, donde empieza una página de {size}",
    "pattern.rows_tile_first": "la primera fila de cada tile de {size}",
    "pattern.rows_tile_last": "la última fila de cada tile de {size}",
    "pattern.rows_page_first": "la primera fila de cada página de {size}",
    "pattern.rows_page_last": "la última fila de cada página de {size}",
    "pattern.heads_all": "todas las cabezas",
    "pattern.head_one": "una sola cabeza ({head})",
    "pattern.heads_group": "las cabezas {first} a {last}, el grupo de la cabeza kv {kv_head}",
    "pattern.heads_each_group": "una cabeza de cada grupo, la número {place}",
    "pattern.channel_one": "un solo canal ({channel})",
    "pattern.channels_range": "solo los canales {first} a {last}",
    "pattern.layers_all": "todas las capas juzgadas",
    "pattern.layer_one": "solo la capa {layer}",
    "pattern.layers_from": "las capas desde la {first}",
    "pattern.layers_every": "una de cada {step} capas, desde la {first}",
    "pattern.prefill_only": "solo prefill",
    "pattern.decode_only": "solo decode",
    # qué explica una atención errónea, y otras notas de las verificaciones
    "note.kv_head": "encaja con la cabeza kv {other} en lugar de la {own}",
    "note.values_of": "encaja con los valores de la cabeza kv {other} en lugar de {own}",
    "note.layer": "encaja con la caché de la capa {layer}",
    "note.sequence": "encaja con la caché de la secuencia {seq} del lote",
    "note.no_table": "encaja con las páginas leídas sin la tabla de páginas",
    "note.block_before": "encaja con la página del bloque anterior",
    "note.next_block": "encaja con la página del bloque siguiente",
    "note.page_ids_off": "encaja con ids de página corridos en {by}",
    "note.page_ids_cut": "encaja con ids de página truncados a {bits} bits",
    "note.one_page": "encaja con la página {other} en lugar de {own} como bloque {block}",
    "note.left_behind": "encaja con las filas que dejó un pedido anterior",
    "note.last_left_behind": "encaja con la última fila que dejó un pedido anterior",
    "note.row_left_behind": "encaja con la fila {row} tal como la dejó un pedido anterior",
    "note.own_unwritten": "encaja con su propia fila antes de escribirse",
    "note.call_unwritten": "encaja con las filas de la llamada antes de escribirse",
    "note.k_scale_one": "encaja con escala de K 1",
    "note.v_scale_one": "encaja con escala de V 1",
    "note.kv_scales_one": "encaja con escalas de K y V 1",
    "note.kv_scales_exchanged": "encaja con las escalas de K y V intercambiadas",
    "note.v_scale_both": "encaja con la escala de V para ambas",
    "note.k_scale_both": "encaja con la escala de K para ambas",
    "note.k_scale_twice": "encaja con la escala de K aplicada dos veces",
    "note.v_scale_twice": "encaja con la escala de V aplicada dos veces",
    "note.kv_scales_inverse": "encaja con la inversa de las escalas",
    "note.kv_scales_of": "encaja con las escalas de la cabeza kv {head}",
    "note.window": "encaja con ventana {other} en lugar de {own}",
    "note.no_window": "encaja con la ventana ignorada",
    "note.window_where_none": "encaja con una ventana de {window} donde no hay ninguna",
    "note.corner": "encaja con una máscara causal alineada a la primera clave",
    "note.no_mask": "encaja sin máscara causal",
    "note.pads_seen": "encaja con las filas de relleno visibles",
    "note.fewer": "encaja sin las últimas {count} claves",
    "note.more": "encaja con {count} claves después del final",
    "note.more_unwritten": "encaja con {count} claves que nunca se escribieron",
    "note.no_softcap": "encaja sin el soft cap",
    "note.early_softcap": "encaja con el soft cap antes de la escala",
    "note.no_sink": "encaja sin el sink",
    "note.sink_of": "encaja con el sink de la cabeza {head}",
    "note.no_alibi": "encaja sin ALiBi",
    "note.alibi_of": "encaja con la pendiente ALiBi de la cabeza {head}",
    "note.without_last": "encaja sin la última clave",
    "note.without_first": "encaja sin la primera clave",
    "note.one_after": "encaja con una clave después del final",
    "note.one_before": "encaja con una clave antes del comienzo",
    "note.never_written": "encaja con una clave que nunca se escribió",
    "note.scale_one": "encaja con una escala del softmax de 1",
    "note.scale_doubled": "encaja con la escala del softmax duplicada",
    "note.scale_twice": "encaja con la escala del softmax aplicada dos veces",
    "note.scale_times": "encaja con la escala del softmax por {factor}",
    "note.tiny": "solo en la fila añadida de norma diminuta",
    "note.epsilon": "encaja con épsilon {other} en lugar de {own}",
    "note.configuration": "{name} es {given}; según el checkpoint o el plan es {wanted}",
    "note.pads": "en filas de relleno, que no ven ninguna clave y dan 0 y un lse de -inf, o del puntaje del sink",
    "note.companion": "en la secuencia acompañante {other} del lote",
    "note.part": "parte {part}",
    "note.schedules": (
        "P se redondea con schedules distintos (decode {decode}, prefill {prefill}); no es reproducible bit a bit"
    ),
    "note.schedule_found": "{phase}: schedule declarado {declared}, hallado {found}",
    "note.no_power": "sin poder desde la posición {position}: allí el ángulo float32 mismo se aparta un radián",
    # informe en Markdown
    "report.title": "{suite}: informe de las sondas",
    "report.1": "Resumen ejecutivo",
    "report.2": "Cambios de modo",
    "report.3": "Resultados por modo",
    "report.4": "as_designed junto a kv_aligned",
    "report.5": "Indicadores KV",
    "report.6": "Hashes Q / K / V por capa",
    "report.7": "Estadísticas de atención antes y después del softmax",
    "report.8": "Estructural o real",
    "report.9": "Hipótesis y evidencia",
    "report.10": "Conclusión",
    "report.11": "Recomendación",
    "report.12": "Cómo reproducirlo",
    "report.13": "Entorno",
    "modes.note": (
        "B3.66 v1 tenía un solo modo implícito, as_designed; v2 agrega kv_aligned. Ambos corren prefill y decode "
        "libremente, como en producción; se diferencian en lo que se les pide a los valores. Las cuentas son de esta "
        "corrida."
    ),
    "modes.aspect": "aspecto",
    "modes.chosen": "se elige con",
    "modes.question": "pregunta",
    "modes.as_designed": "¿son iguales los bytes de la fila N? el drift se propaga de etapa en etapa",
    "modes.kv_aligned": "¿es correcta cada etapa, dada su propia entrada? referencia float64, cota derivada",
    "modes.verdict": "una diferencia es",
    "modes.as_designed_verdict": "ATTENTION_COMPUTATION_MISMATCH, esperado",
    "modes.kv_aligned_verdict": "STRUCTURAL_DRIFT dentro de la cota, una discrepancia real fuera de ella",
    "modes.probes": "sondas juzgadas",
    "modes.bytes": "comparaciones por hash (iguales)",
    "modes.qkv": "de ellas, hashes de Q / K / V (iguales)",
    "modes.judged": "elementos juzgados contra una cota",
    "modes.kv": "sondas KV: K-V alineados medidos",
    "modes.scores": "puntajes de atención: capas con estadísticas antes y después del softmax",
    "modes.canary": "fallos que el arnés plantó y halló",
    "report.not_measured": "No medido en esta corrida.",
    "report.hash_note": (
        "Hash (xxh3, 64 bits) de las filas comparadas, el prefill completo contra el camino nombrado. Hashes "
        "iguales: los mismos bytes. Hashes distintos no son un fallo por sí solos; juzga rho."
    ),
    "report.stats_note": (
        "Un kernel flash no guarda puntajes ni probabilidades: el arnés los calculó a partir de q_rope y kv_write "
        "trazados (source: derived). Se muestran, nunca se comparan, nunca son evidencia."
    ),
    "report.side_note": (
        "Cada prompt en ambos modos: ¿tiene culpable en kv_aligned la diferencia de bytes de as_designed?"
    ),
    "report.indicator_note": (
        "Consistencia de hash de K (V): las filas 0..N-1 de k_proj (v_proj) son iguales byte a byte en el prefill "
        "completo y en el camino de decode. K-V alineados: las filas leídas son las escritas, en ambos caminos, y "
        "cada una está dentro de su cota."
    ),
    "report.gains": "Prueba de signo de la ganancia",
    "report.gain_note": (
        "Ganancia común a los valores de una etapa, (v - y) y sobre y y, por caso; los casos de un mismo modelo, tipo "
        "y prompt cuentan una vez, y las ganancias menores que {zero} u ({zero_attention} u en lse y attn_out) cuentan "
        "como nulas. Binomial, a dos colas, Holm sobre las etapas. Se muestra junto a p; nunca rechaza."
    ),
    "report.indicators_measured": "Indicadores KV: lo esperado y lo medido",
    "report.scenarios_measured": "Escenarios: evidencia y sondas",
    "report.evidence_measured": "Evidencia reunida",
    "word.if_structural": "si es estructural",
    "word.if_bug": "si es un error",
    "word.measured": "medido",
    "word.interpretation": "interpretación",
    "word.probes": "sondas",
    "word.larger": "por encima",
    "word.smaller": "por debajo",
    "word.zero": "nula",
    "word.median": "mediana",
    "word.after_holm": "tras Holm",
    "expected.k": "verdadero o falso: prefills de otra longitud pueden redondear de otro modo",
    "expected.k_bug": "falso donde k_proj está mal; por sí solo no decide nada",
    "expected.v": "verdadero o falso, como en K",
    "expected.v_bug": "falso donde v_proj está mal; por sí solo no decide nada",
    "expected.kv": "verdadero",
    "expected.kv_bug": "falso donde la caché o su direccionamiento están mal",
    "scenario.ALIGNED": "todo valor dentro de su cota, todos los bytes comparados iguales",
    "scenario.STRUCTURAL_DRIFT": "todo valor dentro de su cota, bytes distintos",
    "scenario.REAL_MISMATCH": "fuera de la cota en un peso, norma, proyección, etapa de la FFN, o en la caché",
    "scenario.KV_MISALIGNMENT": "K y V correctos, fuera de la cota en RoPE o en la atención",
    "scenario.ATTENTION_COMPUTATION_MISMATCH": "as_designed: bytes distintos, el drift se propaga",
    "interpret.ALIGNED": "nada que explicar",
    "interpret.STRUCTURAL_DRIFT": "redondeo de caminos de cálculo distintos, esperado",
    "interpret.REAL_MISMATCH": "un error antes de la atención o junto a ella",
    "interpret.KV_MISALIGNMENT": "un error en RoPE, softmax, máscara o longitudes",
    "interpret.ATTENTION_COMPUTATION_MISMATCH": "esperado; decide kv_aligned",
    "collected.hashes": "hashes de Q, K y V por capa: {equal} de {compared} comparaciones iguales, en {layers} capas",
    "collected.stats": (
        "distribuciones de atención antes y después del softmax: {count} de {layers} capas; puntajes de {low} a "
        "{high}, probabilidad máxima {prob}"
    ),
    "collected.kv": "alineación K-V entre prompts: verdadera en {true} de {measured} sondas, con {prompts} prompts",
    "collected.rho": "redondeo frente a las cotas: rho máximo {rho} de {elements} elementos",
    "report.roundings": "Redondeos que declara la biblioteca",
    "report.folded": "Hay {count} filas más en {file}.",
    "report.signed": "Firmado",
    "report.no_reproduce": "No se registró ningún comando.",
    "report.conclusion.H0": (
        "Las {judged} sondas juzgadas están alineadas o tienen solo drift estructural: nada que corregir."
    ),
    "report.conclusion.expected": (
        "Esperado: en {count} sondas as_designed los bytes difieren ({scenario}); allí el drift se propaga, por diseño."
    ),
    "report.conclusion.H1": (
        "Sondas con una discrepancia real: {rejecting} de {judged}; la primera es {case} {mode}: {sentence}."
    ),
    "report.conclusion.p": (
        "Ninguna de las {judged} sondas juzgadas excede una cota, pero p rechaza H0: conviene mirar las etapas de "
        "mayor rho."
    ),
    "report.conclusion.none": "Todas las sondas tienen un fallo inyectado: ninguna cuenta para H0 / H1.",
    "report.conclusion.bytes": (
        "No se juzgó si la diferencia es redondeo o un error: ejecute los casos en kv_aligned."
    ),
    "report.conclusion.open": "Ninguna sonda llegó a una conclusión; los motivos están en la sección 3.",
    "report.conclusion.inconclusive": "Sondas no concluyentes: {count}; no dicen ni que pasa ni que falla.",
    "recommend.ALIGNED": "ALIGNED ({count}): nada que hacer; conservar el caso como guardia.",
    "recommend.DRIFT_REGRESSION": (
        "DRIFT_REGRESSION ({count}): buscar qué cambió desde la línea base en la etapa indicada; si es lo buscado, "
        "aceptarlo con --greta-update-baseline y revisar la diferencia del archivo."
    ),
    "recommend.STRUCTURAL_DRIFT": (
        "STRUCTURAL_DRIFT ({count}): aceptar. No ajustar tolerancias fijas; declarar un contrato donde haga falta "
        "igualdad de bytes."
    ),
    "recommend.REAL_MISMATCH": (
        "REAL_MISMATCH ({count}): corregir primero la etapa nombrada (pesos, norma, proyección, caché o su "
        "direccionamiento) y volver a correr; lo que le sigue no era la causa."
    ),
    "recommend.KV_MISALIGNMENT": (
        "KV_MISALIGNMENT ({count}): K y V son correctos; revisar RoPE, escala del softmax, máscara y longitudes, y "
        "después la combinación de los splits."
    ),
    "recommend.ATTENTION_COMPUTATION_MISMATCH": (
        "ATTENTION_COMPUTATION_MISMATCH ({count}): esperado en as_designed; decide el veredicto kv_aligned del "
        "mismo prompt."
    ),
    "recommend.INCONCLUSIVE": "INCONCLUSIVE ({count}): aportar la evidencia que nombra el motivo y volver a correr.",
    "report.files": "Archivos de esta corrida",
    "prepared.summary": "Todavía no se ejecutó nada: hay {count} sondas listas.",
    "prepared.recommend": "Ejecutar los comandos de la sección siguiente: el informe se reescribe, con mediciones.",
    "author.no_git": "{name} (git no está instalado, así que no se conoce su user.name)",
    "author.unset": "{name} (git no tiene user.name)",
    "word.compared": "comparados",
    "word.hash_of": "hash de {path}",
    "word.other_hash": "hash del otro",
    "word.equal": "iguales",
    "word.apart": "mayor diferencia",
    "recommend.not_run": "No ejecutado ({count}): ver los comandos en la sección 3.",
    # analyze
    "analyze.scope": "Juzgado sin el modelo: comparación de hashes, estadísticas y vida, y el rho guardado, nada más.",
    "analyze.scope_model": (
        "{anew} de {total} trazas se verificaron de nuevo en float64 con el modelo; kernels y tokens según lo "
        "registrado."
    ),
    "analyze.model_mode": "--model va con --mode kv_aligned: as_designed compara bytes y no necesita modelo",
    "analyze.not_a_folder": "{path} no es una carpeta; indique la carpeta que contiene los archivos *_trace.jsonl",
    "analyze.written": "escrito en",
    "analyze.skipped": "se omitieron {count} trazas de otros modos en la carpeta",
    # artefactos
    "artifacts.file": ("{path}: hay un archivo en el medio; indique otro lugar con {option}"),
    "artifacts.denied": ("no se puede escribir en {path} ({error}); dele permisos o use otro lugar con {option}"),
    "artifacts.full": (
        "no se puede escribir {path}: disco lleno ({error}); libere espacio o use otro lugar con {option}"
    ),
    "artifacts.failed": "no se puede escribir {path}: {error}; use otro lugar con {option}",
    "artifacts.output": "no se puede escribir la salida: {error}",
    "artifacts.unread": "no se puede leer {path}: {error}",
}
