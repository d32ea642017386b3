/* Prints sizes and offsets of every struct of greta_attn.h, one a line: "struct size" or "struct.field offset". */
#include <stddef.h>
#include <stdio.h>

#include "greta_attn.h"

#define SIZE(type) printf(#type " %zu\n", sizeof(type))
#define FIELD(type, field) printf(#type "." #field " %zu\n", offsetof(type, field))

static void print_table(void) {
  SIZE(greta_schedule);
  FIELD(greta_schedule, tile);
  FIELD(greta_schedule, splits);
  FIELD(greta_schedule, direction);
  FIELD(greta_schedule, tile_origin);
  FIELD(greta_schedule, max_update);
  FIELD(greta_schedule, max_threshold);
  FIELD(greta_schedule, p_dtype);
  FIELD(greta_schedule, p_scale);
  SIZE(greta_rope_config);
  FIELD(greta_rope_config, base);
  FIELD(greta_rope_config, style);
  FIELD(greta_rope_config, rotary_dim);
  FIELD(greta_rope_config, factors);
  SIZE(greta_layer_config);
  FIELD(greta_layer_config, rope);
  FIELD(greta_layer_config, window);
  FIELD(greta_layer_config, softcap);
  FIELD(greta_layer_config, k_scale);
  FIELD(greta_layer_config, v_scale);
  FIELD(greta_layer_config, sinks);
  FIELD(greta_layer_config, alibi);
  SIZE(greta_config);
  FIELD(greta_config, struct_size);
  FIELD(greta_config, abi);
  FIELD(greta_config, n_layers);
  FIELD(greta_config, n_heads);
  FIELD(greta_config, n_kv_heads);
  FIELD(greta_config, head_dim_qk);
  FIELD(greta_config, head_dim_v);
  FIELD(greta_config, max_seqs);
  FIELD(greta_config, max_len);
  FIELD(greta_config, page_size);
  FIELD(greta_config, n_pages);
  FIELD(greta_config, act_dtype);
  FIELD(greta_config, kv_dtype);
  FIELD(greta_config, softmax_scale);
  FIELD(greta_config, memory);
  FIELD(greta_config, device);
  FIELD(greta_config, stream);
  FIELD(greta_config, threads);
  FIELD(greta_config, schedule);
  FIELD(greta_config, layers);
  SIZE(greta_batch);
  FIELD(greta_batch, struct_size);
  FIELD(greta_batch, n_seqs);
  FIELD(greta_batch, n_tokens);
  FIELD(greta_batch, max_q_len);
  FIELD(greta_batch, max_kv_len);
  FIELD(greta_batch, cu_q);
  FIELD(greta_batch, kv_len);
  FIELD(greta_batch, kv_start);
  FIELD(greta_batch, positions);
  FIELD(greta_batch, slots);
  FIELD(greta_batch, seq_ids);
  FIELD(greta_batch, block_table);
  SIZE(greta_tensor);
  FIELD(greta_tensor, data);
  FIELD(greta_tensor, dtype);
  FIELD(greta_tensor, token_stride);
  FIELD(greta_tensor, head_stride);
  SIZE(greta_counter);
  FIELD(greta_counter, kernel);
  FIELD(greta_counter, phase);
  FIELD(greta_counter, calls);
}
