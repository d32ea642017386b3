"""The English catalogue. One entry a thing said; ``es.py`` has the same keys and the same placeholders."""

from __future__ import annotations

CATALOGUE: dict[str, str] = {
    # words
    "word.pattern": "pattern",
    "word.tiny_row": "row of tiny norm",
    "word.page": "block: page",
    "word.between": "between",
    "word.true": "true",
    "word.false": "false",
    "word.not_measured": "not measured",
    "word.none": "none",
    "word.expected": "expected",
    "word.unexpected": "unexpected",
    "word.unasserted": "not asserted",
    "word.inconclusive": "inconclusive",
    "word.open": "open",
    "word.both_phases": "both",
    "word.no_head": "none",
    "word.engine": "the harness",
    "word.passed": "passed",
    "word.failed": "failed",
    "word.xfailed": "xfail",
    "word.origin": "source",
    "word.derived": "derived",
    "word.mend": "to run them",
    "word.rho_first": "first failure",
    "word.or": "or",
    "word.nothing": "nothing",
    "word.not_run": "not run",
    "word.case": "case",
    "word.mode": "mode",
    "word.verdict": "verdict",
    "word.first_failure": "first failure",
    "word.place": "where",
    "word.max_rho": "max rho",
    "word.dlogit": "dlogit",
    "word.layer": "layer",
    "word.stage": "stage",
    "word.phase": "phase",
    "word.position": "position",
    "word.head": "head",
    "word.status": "status",
    "word.scenario": "scenario",
    "word.finding": "finding",
    "word.reason": "reason",
    "word.detail": "detail",
    "word.worst": "worst element",
    "word.stored": "stored",
    "word.reference": "reference",
    "word.error": "error",
    "word.bound": "bound",
    "word.hashes": "hashes",
    "word.causes": "likely causes",
    "word.evidence": "evidence",
    "word.reproduce": "reproduce",
    "word.indicator": "indicator",
    "word.indicators": "indicators",
    "word.machine": "Machine and versions",
    "word.suite": "suite",
    "word.variant": "variant",
    "word.outcome": "outcome",
    "word.path": "path",
    "word.library": "library",
    "word.kernel": "kernel",
    "word.calls": "calls",
    "word.source": "counted by",
    "word.date": "Date",
    "word.author": "Author",
    "word.run": "Run",
    "word.hypothesis": "hypothesis",
    "word.prompt": "prompt",
    "word.tokens": "tokens",
    "word.fault": "injected fault",
    "word.margin": "top-1 margin",
    "word.top1": "top-1 agrees",
    "word.min": "min",
    "word.max": "max",
    "word.mean": "mean",
    "word.cases": "cases",
    "word.library_source": "library",
    "word.declared_source": "declared, calls counted by the harness",
    # terminal summary
    "summary.folded": "not shown: {count} more ({passed} passed, {failed} failed)",
    "summary.counts": "probes: {total} ({passed} passed, {failed} failed, {not_run} not run)",
    "summary.counts_xfailed": (
        "probes: {total} ({passed} passed, {failed} failed, {xfailed} failed as their mark xfail says, "
        "{not_run} not run)"
    ),
    "summary.expected": "expected mismatches: {count} {scenario} in mode as_designed: drift travels there, by design",
    "summary.expected_faults": "injected faults found where they were planted: {count}",
    "summary.unasserted": "mismatches that no test asserted: {count} (not asserted)",
    "summary.suspect": "finding SUSPECT, {count}: beyond the first tier of the bound only, within the second",
    "summary.canary": "canary: every planted fault was found in {found} of {due} probes",
    "summary.canary_off": "canary: off ({count} probes); nothing shows in this run that it could have failed",
    "summary.canary_none": "canary: none applicable ({count} probes)",
    "summary.schedule": "finding SCHEDULE, {count}: {detail}",
    "summary.nondeterministic": "finding NONDETERMINISTIC, {count}: a repeated attention call gave other bytes",
    "summary.companions": (
        "not judged in every layer: the companions and pad rows of {count} probes, too long to be kept; the key layers "
        "chooses where they are"
    ),
    "summary.baseline": "baseline: {compared} probes compared, {worse} worse, {better} better",
    "summary.baseline_alien": (
        "baseline of another setup ({differs}): of {count} probes only right and wrong were compared"
    ),
    "summary.baseline_changed": "since the baseline ({differs}): {count} probes, compared all the same",
    "summary.baseline_better": "better than the baseline: {count} ({names}); --greta-update-baseline records it",
    "summary.baseline_new": "not in the baseline: {count} ({names}), not compared; --greta-update-baseline adds them",
    "summary.indicators": "indicators (probes without an injected fault)",
    "summary.indicators_note": (
        "K and V hash consistency may be false in a pass: rounding differs between the two paths. K-V aligned may "
        "not: the rows read must be the rows written, and right."
    ),
    "summary.not_run": "not run: {count}, {reason}",
    "summary.mend": "to run them: {command}",
    "summary.inconclusive_alike": "inconclusive, {count} probes: {reason}",
    "summary.inconclusive": "inconclusive: {case} {mode}: {reason}",
    "summary.more_failures": "{count} more failures; see the step summary",
    "summary.cut": "{count} more rows did not fit; all are in the artifacts.",
    "summary.artifacts": "artifacts: {path}",
    "indicator.k": "K hash consistency",
    "indicator.v": "V hash consistency",
    "indicator.kv": "K-V aligned",
    "hypothesis.H0": "H0 kept: all drift seen is structural (probes judged: {judged})",
    "hypothesis.H1": "H0 rejected, H1: {rejecting} of {judged} probes show a real mismatch",
    "hypothesis.p": (
        "H0 rejected by p alone (probes judged: {judged}): no bound is broken, and yet chance hardly comes so close to "
        "one. The exit status stays as it is"
    ),
    "hypothesis.open": "H0 / H1 open: nothing could be concluded",
    "hypothesis.none": "no probe counts for H0 / H1: all have an injected fault",
    "hypothesis.bytes": "H0 / H1 open: bytes differ, and as_designed cannot tell why; kv_aligned can",
    "hypothesis.faults": "probes with an injected fault do not count for H0 / H1",
    "hypothesis.p_value": "p under H0: {p}, over {elements} elements with a statistical bound",
    "hypothesis.even": "gain sign test: no stage leans (smallest p {p}, after Holm over {stages} stages)",
    "hypothesis.leans": (
        "gain sign test: {stage} leans, {positive} cases larger and {negative} smaller than the reference (median gain "
        "{median}, p {p} after Holm); it rejects nothing: hardware that truncates leans too"
    ),
    # one sentence a verdict
    "verdict.ALIGNED": "prefill and decode agree byte for byte",
    "verdict.STRUCTURAL_DRIFT": "prefill and decode differ only by the rounding that each stage is entitled to",
    "verdict.REAL_MISMATCH": "real mismatch in layer {layer}, stage {stage}, phase {phase}: not rounding",
    "verdict.KV_MISALIGNMENT": (
        "K and V are right, attention is not: layer {layer}, stage {stage}, phase {phase} is beyond rounding"
    ),
    "verdict.ATTENTION_COMPUTATION_MISMATCH": (
        "the bytes of prefill and decode first differ in layer {layer}, stage {stage}"
    ),
    "verdict.DRIFT_REGRESSION": "worse than the baseline, in layer {layer}, stage {stage}, phase {phase}: {worse}",
    "verdict.INCONCLUSIVE": "nothing can be concluded: {reason}",
    "verdict.not_run": "not run: {reason}",
    "failure.baseline": "worse than the baseline {file}: {worse}",
    "failure.unmet": "expected {wanted}, found {found}",
    "failure.missed": "the verdict is not the one that the case expects",
    "failure.contract": "contract {contract} broken: the bytes of the two paths differ",
    "failure.contract_at": (
        "contract {contract} broken: first differing stage {stage} in layer {layer}, {left} against {right}, position "
        "{position}"
    ),
    "failure.contract_schedule": "contract {contract} broken: the phases round P by different schedules",
    "failure.contract_repeatable": "contract {contract} broken: a repeat of an attention call gave other bytes",
    "failure.contract_batch_invariant": (
        "contract {contract} broken: without the rest of the batch the attention gave other bytes"
    ),
    "failure.contract_head": "contract {contract} broken",
    "failure.between": "{after} and {stage}",
    "failure.head_layer": "layer {layer}",
    "failure.head_stage": "stage {stage}",
    "failure.limit": "{rho} times the bound (1 is the limit)",
    "failure.where_model": "outside the layers",
    "failure.compared": "{stages} stages, {rows} rows, {elements} elements compared; weights: {weights}",
    "failure.canary": "canary: {canary}; cache kept by: {cache}",
    # declarations and their price
    "declared.price": (
        "{phase} declares {name} {value}: the bound of {stage} is {median} times as wide (median; {worst} at its worst "
        "element)"
    ),
    "declared.widest": (
        "{library} declares {name} {value} in {phase}: bounds up to {median} times as wide ({stage}, median)"
    ),
    "declared.sees": "smallest gain that would be seen: {gains}",
    "report.prices": "What the declarations cost",
    "report.price_note": (
        "The bound with the declaration over the bound without it: the median over the checked elements of the middle "
        "layer, and the same at the element of the largest rho. A declaration is believed as far as its range goes: "
        "what it excuses, no check sees."
    ),
    "report.sees": "Smallest gain seen",
    "report.sees_note": (
        "A gain common to all values of a stage, of which 3 elements are expected beyond their bound, by the case's "
        "type: from the most to the least sensitive probe. Smaller ones pass."
    ),
    "word.declaration": "declaration",
    "word.value": "value",
    "word.at_worst": "at the worst",
    # the faults that the harness plants by itself, and reruns of suspects
    "canary.off": "off",
    "canary.inject": "none, the injected fault is its own proof",
    "canary.none": "none applicable",
    "canary.found": "{found} of {planted} found",
    "canary.missed": "missed: {fault} ({phase}, layer {layer}), due at {stage}, found: {said}",
    "canary.skipped": "not planted: {fault} ({why})",
    "canary.no_rope": "no layer has RoPE",
    "canary.no_kv_heads": "only one kv head",
    "canary.no_same_type": "the cache holds another type than it is given",
    "canary.no_change": "it would change nothing here",
    "canary.not_finite": "the layer before it gave NaN or infinity, as in the case itself",
    "rerun.ok": "rerun with random tokens (seed {seed}): layer {layer} {stage} clean, rho {rho}",
    "rerun.suspect": "rerun with random tokens (seed {seed}): layer {layer} {stage} suspect again, rho {rho}",
    "rerun.definite": "rerun with random tokens (seed {seed}): layer {layer} {stage} beyond both tiers, rho {rho}",
    "rerun.unclear": "rerun with random tokens (seed {seed}): inconclusive",
    "rerun.wrong": "{rerun}; beyond doubt wrong there: {wrong}",
    "failure.further": "attention calls beside those: repeated in {repeats} layers, with q = 0 in {zeros}",
    "failure.path": "{path} ({phase}): {library} / {kernel}, {calls} calls, {source}",
    # how the token was reached, where that is not one prefill and one decoded token
    "way.cut": "the prompt of {whole} tokens was cut to {tokens}: N = {n}",
    "way.chunks": "{count} chunks ran in prefill: {sizes} rows",
    "way.reuse": (
        "the first {rows} rows come from an earlier request, after which {rolled_back} other tokens were decoded and "
        "trimmed"
    ),
    "way.cache_groups": "cache {name}: rows in {bits} bits, groups of {group} elements; read within half a step",
    "way.cache_fp8": "cache {name}: rows in e4m3 at one scale, which the prefill sets; read within its rounding",
    "way.left_pad": "{rows} pad rows stand before the prompt",
    "way.batch": "companions in the batch: {count}, of {rows} rows in the end",
    "way.beside": (
        "companions and pad rows are judged in {layers} of {of} layers only: too long to be kept in more; the key "
        "layers chooses which"
    ),
    "way.decode": "{count} calls ran in decode: {sizes} rows",
    "way.size": "{count} of {rows}",
    "failure.no_kernels": "no kernel was seen to run",
    "failure.more": "and {count} more",
    # why nothing can be concluded: the keys of verdict.Breach
    "breach.path_missing": "the path {path} was not run",
    "breach.tokens_differ": "the two paths were given different tokens: {left} and {right}",
    "breach.rows_differ": "the two paths used different rows: {left} and {right}",
    "breach.positions_differ": "the two paths were planned at different positions: {left} and {right}",
    "breach.kernel_not_run": "path {path}: kernel {kernel} of {library} did not run in phase {phase} (seen: {seen})",
    "breach.other_library": "path {path}: library {seen} ran in phase {phase}, the case names {library}",
    "breach.other_kernel": "path {path}: kernel {seen} ran, {library} declares {kernel} for phase {phase}",
    "breach.too_few_calls": "path {path}: kernel {kernel} was called {seen} times, at least {expected} are due",
    "breach.one_kernel": (
        "{library}: kernel {kernel} ran in both phases, and the library does not declare that they are one"
    ),
    "breach.stage_missing": "path {path}, layer {layer}: stage {stage} was not traced, or is empty",
    "breach.dead_tap": "stage {stage} is all zero in every layer of path {path}, and alive elsewhere: a dead tap",
    "breach.same_buffer": "layer {layer}, stage {stage}: path {path} handed out the same buffer as the full prefill",
    "breach.other_dtype": "path {path}, layer {layer}: stage {stage} is {seen}, the case names {expected}",
    "breach.not_judged": "path {path}, layer {layer}: stage {stage} was traced and could not be judged",
    "breach.fault_not_planted": (
        "the fault {fault} changed nothing: its layer, head, position, phase or magnitude leaves all arguments alike"
    ),
    "breach.declares_less": (
        "{library} declares {declared} bits in {phase}, and the case asks for {name}: {least} at least"
    ),
    "breach.declares_coarser": (
        "{library} declares {says} {declared} in {phase}, and the case asks for {name}: {most} at most"
    ),
    "breach.canary_missed": (
        "canary: the fault {fault} was planted in layer {layer} ({phase}), due at {stage}; found: {said}. The verdict "
        "cannot be believed here"
    ),
    "breach.unreadable": "unreadable record at {where}: {error}",
    "breach.no_records": "no trace records in {path}",
    "breach.no_traces": (
        "no trace records in {path}; run pytest with --greta-artifacts=DIR and --greta-trace=stats (or full) first"
    ),
    "breach.no_counterpart": "no counterpart for {layer}/{stage} row {position}: path {path} did not record it",
    "breach.no_rho": "no record carries a rho; run with --greta-trace stats or full in mode kv_aligned",
    "breach.hash_algo": "the two paths were hashed by different algorithms ({left}, {right})",
    "breach.duplicate": "two different records for {layer}/{stage} row {position} on path {path}",
    "breach.no_kernels": "path {path}: no kernel was recorded",
    "breach.no_sidecar": (
        "{path} has no .safetensors sidecar: only a trace written with --greta-trace full can be checked anew"
    ),
    "breach.other_weights": "the trace was recorded with the weights {recorded}, the model given has {given}",
    "breach.line_long": "{where}: the line is longer than {limit} bytes; it is left out",
    "breach.file_cut": "{where}: the file cannot be read further: {error}",
    "breach.line_object": "{where}: not a JSON object",
    "breach.line_json": "{where}: not JSON: {error}",
    "breach.line_twice": "{where}: the key {name} stands twice",
    "breach.line_event": "{where}: the event {event} is none of GRETA's",
    "breach.line_phase": "{where}: phase is {found}; prefill.. or decode.. expected",
    "breach.line_text": "{where}: {name} is {found}; a text expected",
    "breach.line_whole": "{where}: {name} is {found}; a whole number in its range expected",
    "breach.line_number": "{where}: {name} is {found}; a number expected",
    "breach.line_numbers": "{where}: {name} is {found}; a list of numbers expected",
    "breach.line_prompts": "{where}: more than {limit} prompts; split the folder",
    "breach.lines_more": "{where} and perhaps later lines could not be read either",
    "breach.records_disagree": (
        "{count} records disagree with an earlier one of the same place, the first: {point}, layer {layer}, {phase}, "
        "position {position}"
    ),
    "breach.too_many_waiting": (
        "{count} records were not kept, too many wait for a counterpart; the first: {point}, layer {layer}, {phase}"
    ),
    "breach.other_logical_token": (
        "{count} not paired, another logical token (logical_tok_idx); the first: {point}, layer {layer}, {phase}, "
        "position {position}"
    ),
    "breach.dead_on_both": (
        "{count} rows are zero or constant in both phases, the first: {point}, layer {layer}, {phase}, position "
        "{position}"
    ),
    "breach.hash_against_sample": (
        "{count} pairs have equal hashes and other values, so one of the two is wrong; the first: {point}, layer "
        "{layer}, {phase}, position {position}"
    ),
    "breach.unpaired_position": (
        "{count} not paired, positions differ; the first: {point}, layer {layer}, {phase} at position {position}, "
        "prefill at {other}"
    ),
    "breach.unpaired_point": (
        "{count} not paired, no prefill record of the same form, point and layer; the first: {point}, layer {layer}, "
        "{phase}, position {position}"
    ),
    "breach.left_prefill": (
        "{count} prefill records without a decode record at their position; the first: {point}, layer {layer}, "
        "{phase}, position {position}"
    ),
    "breach.unknown_points": "{count} records of points unknown here, outside the verdict: {names}",
    "breach.hash_scope": (
        "equal hashes say that the first {words} elements of a row are equal, of rows of up to {width}, and no more"
    ),
    "breach.no_reference": (
        "values differ and there is no reference to judge them by: first at {stage}, layer {layer}, position "
        "{position}, |d| up to {apart} in what was printed; a trace of --greta-trace full and --model can be judged"
    ),
    "breach.phase_missing": "no record of the phase {phase}",
    "breach.no_attention": "no stage after the attention was compared",
    "breach.printed_only": "{count} pairs have no hash: printed values that are equal do not show equal bytes",
    "breach.hash_narrow": (
        "hashes cover {words} elements, the rows are wider or of unknown width, and at position {position} no equal "
        "logits vouch for the rest"
    ),
    "breach.same_run": "every pair is the same record in all but its phase: the same run twice?",
    "breach.metadata_unread": "{path} cannot be read: {error}",
    "breach.metadata_apart": "metadata.json: {name} is {left} for prefill and {right} for decode: not one run",
    "breach.logits_missing": "there is no {path}",
    "breach.logits_empty": "{path} holds no record that can be read: nothing is not equal to anything",
    "breach.logits_unpaired": "the decoded token {position} is not in the prefill's logits (next there: {other})",
    "breach.nothing_compared": "nothing was compared",
    "breach.harness": (
        "layer {layer}, stage {stage}: only the harness's own call of the kernel is wrong; both runs are right"
    ),
    "breach.overflow": "layer {layer}, stage {stage}: the reference overflows the storage type too",
    # likely causes
    "cause.embedding": "the embedding row of another token, or an embedding table read with another layout",
    "cause.weight_route": "the weight matrix is transposed, or another matrix is used, in one of the two phases",
    "cause.row": "a wrong or stale input row: the row of another token, or the last row of another step",
    "cause.layer_input": "the layer does not read what the layer before it wrote",
    "cause.norm": "the norm's weight or epsilon differs from the checkpoint's, or the norm is skipped",
    "cause.norm_eps": "the norm's epsilon is another than the checkpoint's",
    "cause.qk_norm": "the norm of q or k is skipped or uses another weight in one phase",
    "cause.projection": "the projection runs in a lower precision than declared, or its bias is missing",
    "cause.rope_position": (
        "RoPE turns by another position: an offset of one, padding counted, the position of another sequence"
    ),
    "cause.rope_table": "RoPE uses another base, scaling or frequency factor than the checkpoint",
    "cause.rope_apply": "RoPE is skipped, applied twice, or pairs the wrong halves",
    "cause.cache_slot": "the row was written to another slot of the cache, or with another layout",
    "cause.cache_bytes": (
        "the cache does not hold the bytes that were written: overwritten, another type, or a missing conversion"
    ),
    "cause.cache_scale": "the scale of the K or V cache is missing or is another head's",
    "cause.stale": "an old row is read: a reused prefix, or a rollback that left rows behind",
    "cause.page": "the page table is read wrongly: another block, a truncated block id, or no table at all",
    "cause.layer": "the cache of another layer is read: a layer offset is missing",
    "cause.sequence": "the cache of another sequence of the batch is read",
    "cause.kv_head": "the query head reads another kv head than its group's",
    "cause.kv_len": "one key too many or too few: the length or the last row is off by one",
    "cause.mask": "the causal mask is aligned to the wrong corner or off by one",
    "cause.window": "the attention window is ignored or off by one",
    "cause.softmax_scale": "the softmax scale is missing, applied twice, or another one",
    "cause.score_mod": "soft cap, sink or bias of the scores is misapplied",
    "cause.split_merge": "the partial results of the key splits are merged with the wrong weights",
    "cause.tile_walk": "the loop over key and value tiles skips, repeats or mixes tiles",
    "cause.tail": "rows beyond the length take part, uninitialised memory included",
    "cause.value_rows": "the value rows are read from elsewhere than the key rows",
    "cause.residual": "the residual sum takes another row, or is added twice or not at all",
    "cause.ffn": "the activation is another function, or gate and up are exchanged",
    "cause.logits": "the readout uses another row or another matrix than the last layer's output and the head",
    "cause.configuration": "plan, weights or tokens differ from their source",
    "cause.nondeterministic": (
        "the same call over the same inputs gives other bytes: a race, atomics, or a buffer that is not yet filled"
    ),
    "cause.drift_regression": (
        "within the bound, and less accurate than it was: another kernel, compiler, library or machine, a lower "
        "precision, or a small error; if it is meant, --greta-update-baseline accepts it"
    ),
    "cause.schedule": "P is rounded tile by tile, and the tile, direction or splits are not the same",
    "cause.precision": (
        "the attention rounds more than is declared: another accumulator, another type of P or V, or a small gain"
    ),
    "cause.as_designed": "rounding: the two phases run different kernels, and drift travels from there on",
    "cause.other_token": "the two phases were given another token at this position",
    "cause.constant_row": "the row is one constant value on one path only: it was never computed",
    "cause.shape": "the two paths give rows of different shapes",
    "cause.not_finite": "a value is not finite: an overflow, or memory that was never written",
    "cause.library_not_finite": "the library returned NaN or inf",
    "cause.dead_row": "the row is all zero on one path only: it was never written",
    "who.decode_kernel": "to blame: the decode kernel, which is wrong over the prefill run's cache too",
    "who.decode_run": (
        "to blame: the decode run's cache contents, lengths or positions; its kernel is right over the prefill "
        "run's cache"
    ),
    "who.prefill_kernel": "to blame: the prefill kernel",
    "who.both_separately": "to blame: both phases, each for itself",
    "who.both": "to blame: both phases, in the same way",
    # which elements are wrong
    "pattern.rows_all": "all checked rows",
    "pattern.row_first": "row 0 only",
    "pattern.row_last": "the last row only ({row})",
    "pattern.row_one": "one row only ({row})",
    "pattern.rows_but_first": "all checked rows but row 0",
    "pattern.rows_from": "every checked row from {first} on; row {right} is right",
    "pattern.rows_from_tile": "every checked row from {first} on, where a tile of {size} begins",
    "pattern.rows_from_page": "every checked row from {first} on, where a page of {size} begins",
    "pattern.rows_tile_first": "the first row of every tile of {size}",
    "pattern.rows_tile_last": "the last row of every tile of {size}",
    "pattern.rows_page_first": "the first row of every page of {size}",
    "pattern.rows_page_last": "the last row of every page of {size}",
    "pattern.heads_all": "all heads",
    "pattern.head_one": "one head only ({head})",
    "pattern.heads_group": "heads {first} to {last}, the group of kv head {kv_head}",
    "pattern.heads_each_group": "one head of each group, number {place} of it",
    "pattern.channel_one": "one channel only ({channel})",
    "pattern.channels_range": "channels {first} to {last} only",
    "pattern.layers_all": "all layers judged",
    "pattern.layer_one": "layer {layer} only",
    "pattern.layers_from": "layers from {first} on",
    "pattern.layers_every": "every layer in {step}, from {first} on",
    "pattern.prefill_only": "prefill only",
    "pattern.decode_only": "decode only",
    # what fits a wrong attention, and other notes of the checks: matched by their English words (see notes.py)
    "note.kv_head": "fits kv head {other} in place of {own}",
    "note.values_of": "fits values of kv head {other} in place of {own}",
    "note.layer": "fits the cache of layer {layer}",
    "note.sequence": "fits the cache of sequence {seq} of the batch",
    "note.no_table": "fits the pages without the page table",
    "note.block_before": "fits the page of the block before",
    "note.next_block": "fits the page of the next block",
    "note.page_ids_off": "fits page ids off by {by}",
    "note.page_ids_cut": "fits page ids cut to {bits} bits",
    "note.one_page": "fits page {other} in place of {own} as block {block}",
    "note.left_behind": "fits the rows that an earlier request left behind",
    "note.last_left_behind": "fits the last row that an earlier request left behind",
    "note.row_left_behind": "fits row {row} as an earlier request left it",
    "note.own_unwritten": "fits its own row before it was written",
    "note.call_unwritten": "fits the call's rows before they were written",
    "note.k_scale_one": "fits k scale 1",
    "note.v_scale_one": "fits v scale 1",
    "note.kv_scales_one": "fits k and v scale 1",
    "note.kv_scales_exchanged": "fits k and v scales exchanged",
    "note.v_scale_both": "fits the v scale for both",
    "note.k_scale_both": "fits the k scale for both",
    "note.k_scale_twice": "fits k scale applied twice",
    "note.v_scale_twice": "fits v scale applied twice",
    "note.kv_scales_inverse": "fits the inverse of the scales",
    "note.kv_scales_of": "fits the scales of kv head {head}",
    "note.window": "fits window {other} in place of {own}",
    "note.no_window": "fits the window ignored",
    "note.window_where_none": "fits a window of {window} where there is none",
    "note.corner": "fits a causal mask aligned to the first key",
    "note.no_mask": "fits no causal mask",
    "note.pads_seen": "fits the pad rows seen",
    "note.fewer": "fits without the last {count} keys",
    "note.more": "fits with {count} keys after the end",
    "note.more_unwritten": "fits with {count} keys that were never written",
    "note.no_softcap": "fits without the soft cap",
    "note.early_softcap": "fits the soft cap before the scale",
    "note.no_sink": "fits without the sink",
    "note.sink_of": "fits the sink of head {head}",
    "note.no_alibi": "fits without ALiBi",
    "note.alibi_of": "fits the ALiBi slope of head {head}",
    "note.without_last": "fits without the last key",
    "note.without_first": "fits without the first key",
    "note.one_after": "fits with one key after the end",
    "note.one_before": "fits with one key before the start",
    "note.never_written": "fits with one key that was never written",
    "note.scale_one": "fits softmax scale 1",
    "note.scale_doubled": "fits softmax scale doubled",
    "note.scale_twice": "fits softmax scale applied twice",
    "note.scale_times": "fits softmax scale times {factor}",
    "note.tiny": "only on the added row of tiny norm",
    "note.epsilon": "fits epsilon {other} in place of {own}",
    "note.configuration": "{name} is {given}, the checkpoint or the plan says {wanted}",
    "note.pads": "in pad rows, which see no key and give 0 and an lse of -inf, or of the sink's score",
    "note.companion": "in companion {other} of the batch",
    "note.part": "part {part}",
    "note.schedules": "P rounding schedules differ (decode {decode}, prefill {prefill}), not bit-reproducible",
    "note.schedule_found": "{phase}: declared schedule {declared}, found {found}",
    "note.no_power": "no power from position {position} on: the float32 angle itself is off by a radian there",
    # Markdown report
    "report.title": "{suite}: probe report",
    "report.1": "Executive summary",
    "report.2": "Changes of mode",
    "report.3": "Results by mode",
    "report.4": "as_designed beside kv_aligned",
    "report.5": "KV indicators",
    "report.6": "Q / K / V hashes by layer",
    "report.7": "Attention statistics before and after softmax",
    "report.8": "Structural or real",
    "report.9": "Hypotheses and evidence",
    "report.10": "Conclusion",
    "report.11": "Recommendation",
    "report.12": "How to reproduce",
    "report.13": "Environment",
    "modes.note": (
        "B3.66 v1 had one implicit mode, as_designed; v2 adds kv_aligned. Both run prefill and decode freely, as in "
        "production; they differ in what is asked of the values. Counts are those of this run."
    ),
    "modes.aspect": "aspect",
    "modes.chosen": "chosen by",
    "modes.question": "question",
    "modes.as_designed": "are the bytes of row N equal? drift travels from stage to stage",
    "modes.kv_aligned": "is each stage right, given its own input? float64 reference, derived bound",
    "modes.verdict": "a difference is",
    "modes.as_designed_verdict": "ATTENTION_COMPUTATION_MISMATCH, expected",
    "modes.kv_aligned_verdict": "STRUCTURAL_DRIFT within the bound, a mismatch beyond it",
    "modes.probes": "probes judged",
    "modes.bytes": "comparisons by hash (equal)",
    "modes.qkv": "of these, Q / K / V hashes (equal)",
    "modes.judged": "elements judged against a bound",
    "modes.kv": "KV probes: K-V aligned measured",
    "modes.scores": "attention scores: layers with statistics before and after softmax",
    "modes.canary": "faults planted by the harness and found",
    "report.not_measured": "Not measured in this run.",
    "report.hash_note": (
        "Hash (xxh3, 64 bit) of the rows compared, the full prefill against the path named. Equal hashes: the same "
        "bytes. Different hashes are not a fault by themselves; rho judges."
    ),
    "report.stats_note": (
        "A flash kernel stores neither scores nor probabilities: these were computed by the harness from the traced"
        " q_rope and kv_write (source: derived). They are shown, never compared, never evidence."
    ),
    "report.side_note": (
        "Each prompt in both modes: does the byte difference of as_designed have a culprit in kv_aligned?"
    ),
    "report.indicator_note": (
        "K (V) hash consistency: rows 0..N-1 of k_proj (v_proj) are byte-equal in the full prefill and in the "
        "decode path. K-V aligned: rows read are the rows written, on both paths, and each is within its bound."
    ),
    "report.gains": "Gain sign test",
    "report.gain_note": (
        "Gain common to a stage's values, (v - y) y over y y, by case; cases of one model, dtype and prompt count "
        "once, gains below {zero} u ({zero_attention} u for lse and attn_out) as none. Binomial, two-sided, Holm over "
        "the stages. Shown beside p; it never rejects."
    ),
    "report.indicators_measured": "KV indicators: expected and measured",
    "report.scenarios_measured": "Scenarios: evidence and probes",
    "report.evidence_measured": "Evidence collected",
    "word.if_structural": "if structural",
    "word.if_bug": "if a bug",
    "word.measured": "measured",
    "word.interpretation": "interpretation",
    "word.probes": "probes",
    "word.larger": "larger",
    "word.smaller": "smaller",
    "word.zero": "none",
    "word.median": "median",
    "word.after_holm": "after Holm",
    "expected.k": "true or false: prefills of other lengths may round otherwise",
    "expected.k_bug": "false where k_proj is wrong; decides nothing by itself",
    "expected.v": "true or false, as for K",
    "expected.v_bug": "false where v_proj is wrong; decides nothing by itself",
    "expected.kv": "true",
    "expected.kv_bug": "false where the cache or its addressing is wrong",
    "scenario.ALIGNED": "every value within its bound, all compared bytes equal",
    "scenario.STRUCTURAL_DRIFT": "every value within its bound, bytes differ",
    "scenario.REAL_MISMATCH": "beyond the bound in a weight, norm, projection, FFN stage, or the cache",
    "scenario.KV_MISALIGNMENT": "K and V right, beyond the bound in RoPE or attention",
    "scenario.ATTENTION_COMPUTATION_MISMATCH": "as_designed: bytes differ, drift travels",
    "interpret.ALIGNED": "nothing to explain",
    "interpret.STRUCTURAL_DRIFT": "rounding of different computation paths, expected",
    "interpret.REAL_MISMATCH": "a bug before or beside the attention",
    "interpret.KV_MISALIGNMENT": "a bug in RoPE, softmax, mask or lengths",
    "interpret.ATTENTION_COMPUTATION_MISMATCH": "expected; kv_aligned decides",
    "collected.hashes": "Q, K and V hashes by layer: {equal} of {compared} comparisons equal, over {layers} layers",
    "collected.stats": (
        "attention distributions before and after softmax: {count} of {layers} layers; scores {low} to {high}, largest "
        "probability {prob}"
    ),
    "collected.kv": "K-V alignment across prompts: true in {true} of {measured} probes, over {prompts} prompts",
    "collected.rho": "rounding against bounds: largest rho {rho} of {elements} elements",
    "report.roundings": "Roundings that the library declares",
    "report.folded": "{count} further rows are in {file}.",
    "report.signed": "Signed",
    "report.no_reproduce": "No command was recorded.",
    "report.conclusion.H0": "All {judged} probes judged are aligned or drift only structurally: nothing to fix.",
    "report.conclusion.expected": (
        "Expected: in {count} as_designed probes bytes differ ({scenario}); drift travels there, by design."
    ),
    "report.conclusion.H1": (
        "{rejecting} of {judged} probes show a real mismatch; the first is {case} {mode}: {sentence}."
    ),
    "report.conclusion.p": (
        "None of the {judged} probes judged breaks a bound, and yet p rejects H0: look at the stages of the largest "
        "rho."
    ),
    "report.conclusion.none": "Every probe has an injected fault: none counts for H0 / H1.",
    "report.conclusion.bytes": (
        "Whether the difference is rounding or a bug was not judged: run the cases in kv_aligned."
    ),
    "report.conclusion.open": "No probe reached a conclusion; the reasons are in section 3.",
    "report.conclusion.inconclusive": "Inconclusive probes: {count}; they say neither pass nor fail.",
    "recommend.ALIGNED": "ALIGNED ({count}): nothing to do; keep the case as a guard.",
    "recommend.DRIFT_REGRESSION": (
        "DRIFT_REGRESSION ({count}): find what changed since the baseline at the stage named above; if it is meant, "
        "accept it with --greta-update-baseline and review the file's difference."
    ),
    "recommend.STRUCTURAL_DRIFT": (
        "STRUCTURAL_DRIFT ({count}): accept. Do not tighten fixed tolerances; state a contract where equal bytes "
        "are needed."
    ),
    "recommend.REAL_MISMATCH": (
        "REAL_MISMATCH ({count}): mend the named stage first (weights, norm, projection, cache or its addressing), "
        "then run again; what follows it was not the cause."
    ),
    "recommend.KV_MISALIGNMENT": (
        "KV_MISALIGNMENT ({count}): K and V are right; look at RoPE, softmax scale, mask and lengths, then at the "
        "split merge."
    ),
    "recommend.ATTENTION_COMPUTATION_MISMATCH": (
        "ATTENTION_COMPUTATION_MISMATCH ({count}): expected in as_designed; the kv_aligned verdict of the same "
        "prompt decides."
    ),
    "recommend.INCONCLUSIVE": "INCONCLUSIVE ({count}): give the missing evidence named in the reason, then run again.",
    "report.files": "Files of this run",
    "prepared.summary": "Nothing has been run yet: {count} probes are ready.",
    "prepared.recommend": "Run the commands of the section below; the report is then written anew, with measurements.",
    "author.no_git": "{name} (git is not installed, so its user.name is not known)",
    "author.unset": "{name} (git has no user.name)",
    "word.compared": "compared",
    "word.hash_of": "hash of {path}",
    "word.other_hash": "hash of the other",
    "word.equal": "equal",
    "word.apart": "largest difference",
    "recommend.not_run": "Not run ({count}): see the commands in section 3.",
    # analyze
    "analyze.scope": "Judged without the model: hash, statistic and liveness comparison and the stored rho, no more.",
    "analyze.scope_model": (
        "{anew} of {total} traces were checked anew in float64 with the model; kernels and tokens as recorded."
    ),
    "analyze.model_mode": "--model goes with --mode kv_aligned: as_designed compares bytes and needs no model",
    "analyze.not_a_folder": "{path} is not a folder; give the folder that holds the *_trace.jsonl files",
    "analyze.written": "written to",
    "analyze.skipped": "{count} traces of other modes in the folder were left out",
    # artifacts
    "artifacts.file": "{path}: there is a file in the way; name another place with {option}",
    "artifacts.denied": ("{path} cannot be written ({error}); make it writable or use another {option}"),
    "artifacts.full": "cannot write {path}: the disk is full ({error}); free space or use another {option}",
    "artifacts.failed": "cannot write {path}: {error}; use another {option}",
    "artifacts.output": "cannot write the output: {error}",
    "artifacts.unread": "cannot read {path}: {error}",
}
