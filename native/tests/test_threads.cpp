/* Threads: calls with work for several give the bytes that one thread gives, and two sessions run side by side, each in
 * a thread of its own, as the header allows. Under the thread sanitizer this is where races show. */
#include <cstdlib>
#include <thread>

#include "isa.h"
#include "reference.h"

namespace {

/* Enough products that no thread is left out (threads.h weighs them). */
Case large_case(std::mt19937& rng) {
  Case c = random_case(rng);
  c.kv_heads = 2;
  c.heads = 6;
  c.dqk = c.dv = 64;
  c.k_scale = c.v_scale = c.sinks = c.alibi = {};
  c.window = c.window > 2 ? 100 : 0;
  c.max_len = 420;
  c.kv_len = {400, 7, 300};
  c.q_len = {300, 2, 120};
  c.kv_start = {0, 1, 20};
  c.schedule[1].splits = 3;
  return c;
}

struct Result {
  Bytes out[2], q, k;
  std::vector<float> lse[2];
};

Result run(const Case& c, uint32_t seed, int32_t threads) {
  std::mt19937 rng(seed);
  Result result;
  Setup setup(c, rng, threads);
  if (setup.session == nullptr) return result;
  for (int32_t phase : {GRETA_PREFILL, GRETA_DECODE}) {
    setup.attend(phase);
    result.out[phase] = setup.out;
    result.lse[phase] = setup.lse;
  }
  result.k = random_tensor(c.act, setup.tokens * static_cast<size_t>(c.kv_heads * c.dqk), rng);
  setup.rope(GRETA_PREFILL, result.k);
  result.q = setup.q;
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 6;
  const int32_t most = 4;
  for (const greta::Isa* isa = greta::usable_isas(); isa->name != nullptr; ++isa) {
    setenv("GRETA_CPU_ISA", isa->name, 1);
    std::mt19937 rng(3);
    for (int round = 0; round < rounds; ++round) {
      const Case c = large_case(rng);
      const auto seed = static_cast<uint32_t>(round);
      const Result one = run(c, seed, 1);
      Result several[2];
      std::thread beside([&] { several[0] = run(c, seed, most); });
      several[1] = run(c, seed, most);
      beside.join();
      for (const Result& result : several) {
        for (int32_t phase : {GRETA_PREFILL, GRETA_DECODE}) {
          CHECK(result.out[phase] == one.out[phase], "%s, round %d: out of phase %d depends on the threads", isa->name,
                round, phase);
          CHECK(
              std::memcmp(result.lse[phase].data(), one.lse[phase].data(), one.lse[phase].size() * sizeof(float)) == 0,
              "%s, round %d: lse of phase %d depends on the threads", isa->name, round, phase);
        }
        CHECK(result.q == one.q && result.k == one.k, "%s, round %d: RoPE depends on the threads", isa->name, round);
      }
    }
  }
  return check::finish("threads");
}
