"""The kinds of faults: what each is, and what its magnitude means. English, Spanish."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    "fault.w_route": (
        "a weight is transposed, or another layer's",
        "un peso está transpuesto o es de otra capa",
    ),
    "fault.w_route.magnitude": (
        "layers (or rows) further on, where the matrix is not square",
        "capas (o filas) más adelante, si la matriz no es cuadrada",
    ),
    "fault.in_row": ("a stage reads an earlier token's row", "una etapa lee la fila de un token anterior"),
    "fault.in_row.magnitude": ("rows before its own", "filas antes de la propia"),
    "fault.qk_norm": ("the norm of q or k is left out", "falta la norma de q o de k"),
    "fault.qk_norm.magnitude": ("not used", "no se usa"),
    "fault.gemm_prec": (
        "a projection takes operands of lower precision",
        "una proyección toma operandos de menor precisión",
    ),
    "fault.gemm_prec.magnitude": (
        "bits of significand that are left: 8 is bf16, 11 is f16",
        "bits de mantisa que quedan: 8 es bf16, 11 es f16",
    ),
    "fault.rope_pos": ("the RoPE position is off", "la posición de RoPE está corrida"),
    "fault.rope_pos.magnitude": ("added to the RoPE position", "se suma a la posición de RoPE"),
    "fault.rope_table": (
        "q and k are turned by another layer's table, or without its scaling",
        "q y k se rotan con la tabla de otra capa, o sin su escalado",
    ),
    "fault.rope_table.magnitude": (
        "layers further on whose table is taken",
        "capas más adelante de las que se toma la tabla",
    ),
    "fault.rope_apply": (
        "RoPE is skipped, applied twice, or over the wrong pairs",
        "RoPE se omite, se aplica dos veces o sobre pares equivocados",
    ),
    "fault.rope_apply.magnitude": (
        "-1: skipped; 1: twice; 2: the other pairing",
        "-1: se omite; 1: dos veces; 2: los otros pares",
    ),
    "fault.kv_slot": ("a row is written to a wrong slot", "una fila se escribe en una posición equivocada"),
    "fault.kv_slot.magnitude": (
        "added to the cache slot of a written row",
        "se suma a la posición en la caché de la fila escrita",
    ),
    "fault.kv_stale": (
        "the kernel reads rows as they were before they were rewritten",
        "el kernel lee filas como estaban antes de reescribirse",
    ),
    "fault.kv_stale.magnitude": ("not used", "no se usa"),
    "fault.kv_scale": (
        "the kernel leaves a cache scale out, or takes the other's",
        "el kernel omite una escala de la caché o toma la otra",
    ),
    "fault.kv_scale.magnitude": (
        "1: left out; 2: V's for K, K's for V",
        "1: se omite; 2: la de V para K, la de K para V",
    ),
    "fault.dtype_mix": ("a buffer is taken for one of another type", "un búfer se toma por uno de otro tipo"),
    "fault.dtype_mix.magnitude": ("not used", "no se usa"),
    "fault.layer_base": ("the kernel reads another layer's pages", "el kernel lee las páginas de otra capa"),
    "fault.layer_base.magnitude": (
        "added to the layer; before the first there is none",
        "se suma a la capa; antes de la primera no hay ninguna",
    ),
    "fault.page_addr": ("the kernel reads other pages", "el kernel lee otras páginas"),
    "fault.page_addr.magnitude": (
        "added to the page id; negative: low bits of the id that are left",
        "se suma al id de página; negativa: bits bajos del id que quedan",
    ),
    "fault.gqa_map": ("a query head reads another kv head", "una cabeza de consulta lee otra cabeza kv"),
    "fault.gqa_map.magnitude": ("kv heads by which the map is off", "cabezas kv en que se corre el mapa"),
    "fault.tile_walk": (
        "the loop over values lags behind the one over keys",
        "el bucle de valores va detrás del de claves",
    ),
    "fault.tile_walk.magnitude": ("tiles by which it lags", "tiles que lleva de atraso"),
    "fault.kv_len": ("the kernel is told another number of keys", "al kernel se le da otro número de claves"),
    "fault.kv_len.magnitude": ("added to the number of keys", "se suma al número de claves"),
    "fault.causal_align": (
        "the causal mask hangs in the upper left corner",
        "la máscara causal cuelga de la esquina superior izquierda",
    ),
    "fault.causal_align.magnitude": ("not used", "no se usa"),
    "fault.window": (
        "the sliding window is off, or ignored",
        "la ventana deslizante está corrida o se ignora",
    ),
    "fault.window.magnitude": (
        "added to the window; nothing left: ignored",
        "se suma a la ventana; si no queda nada, se ignora",
    ),
    "fault.qk_scale": ("the softmax scale is missing or doubled", "falta la escala del softmax o es doble"),
    "fault.qk_scale.magnitude": (
        "the query is multiplied by 1 + magnitude",
        "la consulta se multiplica por 1 + magnitud",
    ),
    "fault.score_mod": (
        "soft cap, sinks or bias of the scores are misapplied",
        "el soft cap, los sinks o el sesgo de los puntajes se aplican mal",
    ),
    "fault.score_mod.magnitude": (
        "1: left out; 2: the next head's, the cap doubled",
        "1: se omiten; 2: los de la cabeza siguiente, el cap doble",
    ),
    "fault.split_merge": (
        "partial results of split-KV are combined without rescaling",
        "los resultados parciales de split-KV se combinan sin reescalar",
    ),
    "fault.split_merge.magnitude": ("not used", "no se usa"),
    "fault.tile_quant": (
        "the softmax weights are rounded on another tile",
        "los pesos del softmax se redondean en otro tile",
    ),
    "fault.tile_quant.magnitude": ("keys added to the tile", "claves que se suman al tile"),
    "fault.tail_nan": (
        "the last tile goes on over rows that nobody wrote",
        "el último tile sigue sobre filas que nadie escribió",
    ),
    "fault.tail_nan.magnitude": ("not used", "no se usa"),
    "fault.gain": (
        "an output, a scale or a base is a little too large; or K's last bit is off",
        "una salida, una escala o una base es un poco mayor; o el último bit de K es otro",
    ),
    "fault.gain.magnitude": (
        "times 1 + magnitude; at kv_write: units in the last place",
        "por 1 + magnitud; en kv_write: unidades del último lugar",
    ),
    "fault.race": (
        "a repeat of a call gives something else: a buffer was used before it was ready",
        "al repetir una llamada sale otra cosa: un búfer se usó antes de estar listo",
    ),
    "fault.race.magnitude": (
        "1: another order of adding; 2: without the newest row",
        "1: se suma en otro orden; 2: sin la fila más nueva",
    ),
    "fault.head": (
        "{count} kinds of faults that inject: can plant",
        "{count} tipos de fallos que inject: puede plantar",
    ),
    "fault.columns": (
        "kind         planted  found at                           what; magnitude",
        "tipo         planta   se halla en                        qué; magnitud",
    ),
    "fault.line": ("magnitude {default}: {meaning}", "magnitud {default}: {meaning}"),
    "fault.where": (
        "argument: by the harness between tap and call, on any library; weights, engine: by the harness in the model; "
        "kernel: in the faulty twin of the CPU library (backend: cpu)",
        "argument: lo planta el arnés entre la toma y la llamada, en cualquier biblioteca; weights, engine: el arnés "
        "en el modelo; kernel: en el gemelo defectuoso de la biblioteca CPU (backend: cpu)",
    ),
}
