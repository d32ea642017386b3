/* greta_describe: what this library has and how it rounds, as JSON. The harness holds the library to every word. */
#include <mutex>
#include <string>

#include "config.h"
#include "errors.h"
#include "fault_points.h"
#include "isa.h"

namespace greta {
namespace {

#ifndef GRETA_VERSION
#define GRETA_VERSION "unknown"
#endif

std::string quoted(const std::string& text) {
  return "\"" + text + "\"";
}

/* The default schedules; another one is what the caller asked for. */
std::string numerics(const Schedule& schedule) {
  return "{\"tile\": " + std::to_string(schedule.tile) + ", \"splits\": " + std::to_string(schedule.splits) +
         ", \"direction\": \"forward\", \"tile_origin\": \"zero\", \"max_update\": \"every_tile\", \"p_dtype\": "
         "\"f32\", "
         "\"p_scale\": 1.0, \"acc_bits\": 24, \"acc_round\": \"rne\", \"k_step\": 1, \"flush\": false, \"dot_bits\": "
         "24, "
         "\"q_prescale\": \"f32\", \"kv_dequant\": \"folded\", \"l_from\": \"before\", \"split_partials\": \"f32\", "
         "\"rope_dtype\": \"f32\", \"angle\": \"f64\", \"exp_rel\": 1.1920928955078125e-07, "
         "\"tanh_rel\": 2.384185791015625e-07}";
}

std::string description(const Isa& isa) {
  return std::string("{\"name\": ") + quoted(has_faults ? "greta-cpu-faulty" : "greta-cpu") +
         ", \"version\": " + quoted(GRETA_VERSION) + ", \"abi\": " + std::to_string(GRETA_ABI_VERSION) +
         ", \"faulty\": " + (has_faults ? "true" : "false") +
         ", \"device_kind\": \"cpu\", \"isa\": " + quoted(isa.name) +
         ", \"features\": [\"rope\", \"kv_write\", \"kv_read\", \"kv_load\", \"kv_trim\", \"counters\", \"sync\", "
         "\"device_count\", \"paged\", \"ragged\", \"gqa\", \"q_len\", \"kv_start\", \"schedule\", \"partial_rotary\", "
         "\"rope_factors\", \"window\", \"softcap\", \"sinks\", \"alibi\", \"kv_scale\", \"direction\", "
         "\"tile_origin\", \"max_update\", \"p_dtype\", \"p_scale\"]"
         ", \"act_dtypes\": [\"f32\", \"bf16\", \"f16\"], \"kv_dtypes\": [\"f32\", \"bf16\", \"f16\", "
         "\"fp8_e4m3fn\", \"fp8_e4m3fnuz\"]"
         ", \"p_dtypes\": [\"f32\", \"bf16\", \"f16\", \"fp8_e4m3fn\", \"fp8_e4m3fnuz\"], \"memory\": [\"host\"], "
         "\"max_head_dim\": " +
         std::to_string(max_head_dim) + ", \"max_splits\": " + std::to_string(max_splits) +
         ", \"kv\": \"cached\", \"prefill_kv\": \"cache\", \"one_kernel\": false, \"kernels\": {\"prefill\": " +
         quoted(isa.kernels->prefill_name) + ", \"decode\": " + quoted(isa.kernels->decode_name) +
         "}, \"numerics\": {\"prefill\": " + numerics(default_schedule[GRETA_PREFILL]) +
         ", \"decode\": " + numerics(default_schedule[GRETA_DECODE]) + "}}";
}

}  // namespace
}  // namespace greta

const char* greta_describe(void) {
  /* One text for each instruction set, because GRETA_CPU_ISA may change between calls and a returned text must stay. */
  static std::mutex mutex;
  static std::string texts[4];
  const char* result = nullptr;
  greta::guarded([&] {
    const std::lock_guard<std::mutex> lock(mutex);
    const greta::Isa& isa = greta::best_isa();
    std::string& text = texts[&isa - greta::usable_isas()];
    if (text.empty()) text = greta::description(isa);
    result = text.c_str();
  });
  return result;
}
