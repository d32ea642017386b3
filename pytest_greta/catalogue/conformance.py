"""What ``greta backend`` says of a library: what was tried, what it did, what it should have done. English, Spanish."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    # greta backend new
    "new.exists": (
        "{path} exists, and nothing is overwritten; give another folder",
        "{path} ya existe, y nada se sobrescribe; indique otra carpeta",
    ),
    "new.unwritable": ("{path} cannot be written: {error}", "no se puede escribir {path}: {error}"),
    "new.written": ("written to {path}: {files}", "escrito en {path}: {files}"),
    "new.next": (
        "next, build it, check the ABI, probe it: {commands}",
        "ahora, compílelo, compruebe la ABI, sondéelo: {commands}",
    ),
    # greta backend check
    "conform.seconds": (
        "--timeout: {value} is no number of seconds; expected one above 0, up to 3600",
        "--timeout: {value} no es un número de segundos; se esperaba uno mayor que 0, hasta 3600",
    ),
    "conform.head": ("{name} {version}: {path}", "biblioteca {name} {version}: {path}"),
    "conform.column_function": ("function", "función"),
    "conform.column_tried": ("tried", "se probó"),
    "conform.column_result": ("result", "resultado"),
    "conform.absent": (
        "Not exported, so the harness does it or does without: {names}",
        "Sin exportar, así que lo hace el arnés o se prescinde: {names}",
    ),
    "conform.undeclared": (
        "Not declared in features, so not tried: {names}",
        "Sin declarar en features, así que no se probó: {names}",
    ),
    "conform.conformant": (
        "conformant: {count} of {count} rows",
        "conforme: {count} de {count} filas",
    ),
    "conform.failed": (
        "not conformant: {bad} of {count} rows failed",
        "no conforme: fallaron {bad} de {count} filas",
    ),
    "conform.stderr": ("On stderr: {words}", "En stderr: {words}"),
    # what was tried
    "conform.tried_describe": ("a JSON object that stays", "un objeto JSON que permanece"),
    "conform.tried_open_close": ("open and close, 20 times", "abrir y cerrar, 20 veces"),
    "conform.tried_two_sessions": ("two sessions, one is closed", "dos sesiones, se cierra una"),
    "conform.tried_two_caches": ("two sessions, a cache each", "dos sesiones, una caché cada una"),
    "conform.tried_copied": ("config is freed after open", "config se libera tras open"),
    "conform.tried_prefill_start": ("prefill, buffers begin at guards", "prefill, guardas al inicio"),
    "conform.tried_dtypes": ("every declared act_dtype", "cada act_dtype declarado"),
    "conform.tried_gaps": ("strides with gaps", "strides con huecos"),
    "conform.tried_unseen": ("prefill, q 5, kv 3: two see none", "prefill, q 5, kv 3: 2 no ven nada"),
    "conform.tried_cu_q_beyond": ("batch.cu_q beyond n_tokens", "batch.cu_q supera n_tokens"),
    "conform.tried_cu_q_descends": ("batch.cu_q descends", "batch.cu_q decrece"),
    "conform.tried_call_table": ("the pages that this call names", "las páginas que nombra la llamada"),
    "conform.tried_last_error": ("one line after an error", "una línea tras un error"),
    "conform.tried_rope": ("positions 0, 1, 2", "posiciones 0, 1, 2"),
    "conform.tried_write_read": ("rows come back as written", "las filas vuelven tal cual"),
    "conform.tried_load": ("loaded rows are read back", "las filas cargadas se releen"),
    "conform.tried_trim": ("rows before len stay", "las filas antes de len quedan"),
    "conform.tried_counters": ("capacity 0, then all", "capacidad 0, luego todos"),
    # what became of it
    "conform.crash": (
        "{function} ended its process by {signal}, with guard pages and without: a wild pointer, an argument that was "
        "not looked at, or an abort; expected a greta_status",
        "{function} terminó su proceso con {signal}, con páginas de guarda y sin ellas: un puntero perdido, un "
        "argumento que no se miró o un abort; se esperaba un greta_status",
    ),
    "conform.overread": (
        "{function} reads past one of its buffers ({signal} at the guard page; without guard pages it returns): "
        "check the last row, the last head and the length against the arguments",
        "{function} lee más allá de uno de sus búferes ({signal} en la página de guarda; sin ellas, vuelve): revise la "
        "última fila, la última cabeza y la longitud frente a los argumentos",
    ),
    "conform.past": (
        "{function} wrote up to {offset} bytes past the end of {buffer}",
        "{function} escribió hasta {offset} bytes después del final de {buffer}",
    ),
    "conform.overrun": (
        "{function} wrote up to {offset} bytes before the start of {buffer}",
        "{function} escribió hasta {offset} bytes antes del inicio de {buffer}",
    ),
    "conform.gap": (
        "{function} wrote between the rows of {array}: token_stride and head_stride count elements, and what lies "
        "between is not its own",
        "{function} escribió entre las filas de {array}: token_stride y head_stride cuentan elementos, y lo que hay "
        "entre medio no es suyo",
    ),
    "conform.input": (
        "{function} wrote into {buffer}, which is an input: copy what you change",
        "{function} escribió en {buffer}, que es una entrada: copie lo que cambie",
    ),
    "conform.hang": (
        "{function} did not return within {seconds:g} s (--timeout); its process was ended",
        "{function} no volvió en {seconds:g} s (--timeout); se terminó su proceso",
    ),
    "conform.exit": (
        "{function} ended its process with exit code {code}: a library returns a status and never exits",
        "{function} terminó su proceso con código de salida {code}: una biblioteca devuelve un estado y nunca sale",
    ),
    "conform.fork": (
        "the library forked: its copy would run on as a second harness",
        "la biblioteca hizo fork: su copia seguiría como un segundo arnés",
    ),
    "conform.printed": (
        "it printed {words!r} on stdout, which belongs to the caller; use greta_last_error, or stderr",
        "imprimió {words!r} en stdout, que es de quien llama; use greta_last_error, o stderr",
    ),
    "conform.nan": (
        "{function} wrote NaN to {count} elements of {array}, first at token {token}, head {head}",
        "{function} escribió NaN en {count} elementos de {array}, el primero en el token {token}, cabeza {head}",
    ),
    "conform.unwritten": (
        "{function} left {count} elements of {array} unwritten, first at token {token}, head {head}",
        "{function} dejó sin escribir {count} elementos de {array}, el primero en el token {token}, cabeza {head}",
    ),
    "conform.unseen": (
        "{function}: token {token} sees no row, so out is 0 and lse -inf; {array} is {value:g}",
        "{function}: el token {token} no ve ninguna fila, así que out es 0 y lse -inf; {array} es {value:g}",
    ),
    "conform.one_key": (
        "{function}: token {token} sees one row only, row {row} of its sequence, so out of head {head} is that row of "
        "V; it is not. See the header on kv_len, kv_start and which kv head a head reads",
        "{function}: el token {token} ve una sola fila, la {row} de su secuencia, así que out de la cabeza {head} es "
        "esa fila de V; no lo es. Vea en el encabezado kv_len, kv_start y qué cabeza de kv lee cada cabeza",
    ),
    "conform.accepted": (
        "{function} says GRETA_OK; expected a status that refuses it, GRETA_INVALID_ARGUMENT or GRETA_UNSUPPORTED",
        "{function} dice GRETA_OK; se esperaba un estado que lo rechace, GRETA_INVALID_ARGUMENT o GRETA_UNSUPPORTED",
    ),
    "conform.refused": (
        "{function} says {status} ({words}); expected GRETA_OK",
        "{function} dice {status} ({words}); se esperaba GRETA_OK",
    ),
    "conform.status": (
        "{function} returned {number}, which is no greta_status; expected 0 to 6",
        "{function} devolvió {number}, que no es un greta_status; se esperaba de 0 a 6",
    ),
    "conform.words": (
        "after {function} failed greta_last_error said {words!r}; expected one line that says what was wrong",
        "tras el error de {function}, greta_last_error dijo {words!r}; se esperaba una línea que diga qué falló",
    ),
    "conform.version": (
        "{function} returned {theirs}, expected {ours}",
        "{function} devolvió {theirs}, se esperaba {ours}",
    ),
    "conform.describe_moves": (
        "{function} changed the text that it returned before; it must stay for as long as the library is loaded",
        "{function} cambió el texto que había devuelto; debe quedar mientras la biblioteca esté cargada",
    ),
    "conform.describe_empty": (
        "{function}: {key} is empty, so no case can run; expected at least one of f32, bf16, f16",
        "{function}: {key} está vacío, así que ningún caso puede correr; se esperaba al menos uno de f32, bf16, f16",
    ),
    "conform.keeps_cache": (
        '{function} declares a cache of its own, but {lacks} is not exported; export it, or declare "kv": "stateless"',
        '{function} declara una caché propia, pero no exporta {lacks}; expórtela, o declare "kv": "stateless"',
    ),
    "conform.no_session": (
        "{function} says GRETA_OK and gives no session",
        "{function} dice GRETA_OK y no da una sesión",
    ),
    "conform.devices": ("{function} counts {count} devices", "{function} cuenta {count} dispositivos"),
    "conform.rope_zero": (
        "{function} changed {array} at position 0, where nothing turns",
        "{function} cambió {array} en la posición 0, donde nada gira",
    ),
    "conform.rope_still": (
        "{function} left {array} as it was at positions 1 and 2",
        "{function} dejó {array} como estaba en las posiciones 1 y 2",
    ),
    "conform.rows": (
        "{function}: row {row} of {array} is not what was written, byte for byte",
        "{function}: la fila {row} de {array} no es lo que se escribió, byte por byte",
    ),
    "conform.counted": (
        "{function} says that {count} kernels ran after two calls; expected 1 or more",
        "{function} dice que se ejecutaron {count} kernels tras dos llamadas; se esperaba 1 o más",
    ),
    "conform.kernel": (
        "{function} does not count {kernel}, which greta_describe names for {phase}",
        "{function} no cuenta {kernel}, que greta_describe nombra para {phase}",
    ),
    "conform.device_only": (
        "the library takes device memory only, and guard pages are host memory: nothing could be tried; probe it with "
        "pytest --greta-library",
        "la biblioteca solo acepta memoria de dispositivo, y las páginas de guarda son memoria del host: no se pudo "
        "probar nada; sondéela con pytest --greta-library",
    ),
    "conform.internal": (
        "the check itself failed, please report it: {words}",
        "falló la comprobación misma, por favor informe: {words}",
    ),
    "conform.server": (
        "the process that tries the library ended early; its words are on stderr",
        "el proceso que prueba la biblioteca terminó antes de tiempo; sus palabras están en stderr",
    ),
}
