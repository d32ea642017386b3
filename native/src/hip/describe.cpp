/* greta_describe: what this library has and how it rounds, as JSON. The harness holds the library to every word. */
#include <mutex>
#include <set>
#include <string>

#include "errors.h"
#include "hip_session.h"

#ifdef GRETA_FAULTS
#define GRETA_FAULTY "true"
#define GRETA_TWIN "-faulty"
#else
#define GRETA_FAULTY "false"
#define GRETA_TWIN ""
#endif
#ifndef GRETA_VERSION
#define GRETA_VERSION "unknown"
#endif
#if defined(GRETA_EMULATED)
#define GRETA_LIBRARY "greta-hip-emulated"
#elif defined(GRETA_CUDA)
#define GRETA_LIBRARY "greta-cuda"
#else
#define GRETA_LIBRARY "greta-hip"
#endif

namespace greta {
namespace {

std::string quoted(const std::string& text) {
  return "\"" + text + "\"";
}

/* How a phase's sums are rounded. The emulation adds product by product in float. Matrix cores do not: CDNA 3 aligns
 * the products of eight neighbouring k and rounds toward minus infinity, NVIDIA's cut the sum of eight or sixteen; CDNA
 * 2 adds four products in pairs and then to the rest, each sum to nearest in float, and flushes subnormals of the
 * 16-bit types (arXiv 2511.10909 and its source, github.com/microsoft/MMA-Sim; AMD's ROCm documentation, "MI200 MFMA
 * behavior specifics"). Decode runs on the vector units of all, product by product. */
std::string accumulation(const std::string& kind, bool matrix) {
  const bool cuda = kind.find("cuda") != std::string::npos, emulated = kind.find("emulated") != std::string::npos;
  if (emulated || !matrix) {
    return "\"acc_bits\": 24, \"acc_round\": \"rne\", \"k_step\": 1, \"flush\": false, \"dot_bits\": 24";
  }
  const bool cdna2 = kind.find("gfx90a") != std::string::npos;
  const char* round = cuda ? "rz" : cdna2 ? "rne" : "rd";
  return "\"acc_bits\": 24, \"acc_round\": " + quoted(round) + ", \"k_step\": " + (cdna2 ? "1" : "8") +
         ", \"flush\": " + (cdna2 ? "true" : "false") + ", \"dot_bits\": 24";
}

std::string numerics(const std::string& kind, KernelChoice choice, int32_t phase) {
  const bool prefill = phase == GRETA_PREFILL;
  return "{\"tile\": " + std::to_string(tile_keys) +
         ", \"splits\": " + std::to_string(prefill ? 1 : default_decode_splits) +
         ", \"direction\": \"forward\", \"tile_origin\": \"zero\", \"max_update\": \"every_tile\", \"p_dtype\": " +
         quoted(prefill ? "act" : "f32") + ", \"p_scale\": 1.0, " +
         accumulation(kind, prefill && choice == KernelChoice::fast) +
         ", \"q_prescale\": \"f32\", \"kv_dequant\": \"folded\", \"l_from\": \"before\", \"split_partials\": \"f32\", "
         "\"rope_dtype\": \"f32\", \"angle\": \"f64\", \"exp_rel\": 2.384185791015625e-07, "
         "\"tanh_rel\": 4.76837158203125e-07}";
}

std::string description(const std::string& kind, KernelChoice choice) {
  return "{\"name\": \"" GRETA_LIBRARY GRETA_TWIN "\", \"version\": \"" GRETA_VERSION "\", \"abi\": " +
         std::to_string(GRETA_ABI_VERSION) + ", \"faulty\": " GRETA_FAULTY ", \"device_kind\": " + quoted(kind) +
         ", \"features\": [\"rope\", \"kv_write\", \"kv_read\", \"kv_load\", \"kv_trim\", \"counters\", \"sync\", "
         "\"device_count\", \"paged\", \"ragged\", \"gqa\", \"q_len\", \"kv_start\", \"schedule\", \"partial_rotary\", "
         "\"rope_factors\", \"window\", \"softcap\", \"sinks\", \"alibi\", \"kv_scale\"]"
         ", \"act_dtypes\": [\"f32\", \"bf16\", \"f16\"], \"kv_dtypes\": [\"f32\", \"bf16\", \"f16\", \"fp8_e4m3fn\", "
         "\"fp8_e4m3fnuz\"], \"p_dtypes\": [\"f32\", \"bf16\", \"f16\"], \"memory\": [\"host\", \"device\"], "
         "\"max_head_dim\": " +
         std::to_string(max_head_dim) + ", \"max_splits\": " + std::to_string(max_splits) +
         ", \"kv\": \"cached\", \"prefill_kv\": \"cache\", \"one_kernel\": false, \"kernels\": {\"prefill\": " +
         quoted(kernel_name(choice, GRETA_PREFILL)) + ", \"decode\": " + quoted(kernel_name(choice, GRETA_DECODE)) +
         "}, \"numerics\": {\"prefill\": " + numerics(kind, choice, GRETA_PREFILL) +
         ", \"decode\": " + numerics(kind, choice, GRETA_DECODE) + "}}";
}

}  // namespace
}  // namespace greta

const char* greta_describe(void) {
  /* A text stays when the next one differs, because GRETA_HIP_KERNELS may change between calls. */
  static std::mutex mutex;
  static std::set<std::string> texts;
  const char* result = nullptr;
  greta::guarded([&] {
    const std::lock_guard<std::mutex> lock(mutex);
    greta::KernelChoice choice = greta::KernelChoice::fast;
    greta::guarded([&] { choice = greta::chosen_kernels(); }); /* greta_open says what is wrong with the variable */
    result = texts.insert(greta::description(greta::runtime::device_kind(), choice)).first->c_str();
  });
  return result;
}
