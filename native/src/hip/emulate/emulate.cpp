#include "emulate.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <utility>
#include <vector>

/* switch_stack(&from, to): saves the callee-saved registers on this stack, its pointer in `from`, and goes on at `to`.
 */
extern "C" void greta_switch_stack(void** from, void* to);
#if defined(__x86_64__)
asm(R"(
.text
.type greta_switch_stack, @function
.hidden greta_switch_stack
.globl greta_switch_stack
greta_switch_stack:
  endbr64
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size greta_switch_stack, .-greta_switch_stack
)");
constexpr int saved_words = 6;
#elif defined(__aarch64__)
asm(R"(
.text
.type greta_switch_stack, %function
.hidden greta_switch_stack
.globl greta_switch_stack
greta_switch_stack:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size greta_switch_stack, .-greta_switch_stack
)");
#else
#error "the emulation knows how to switch stacks on x86-64 and aarch64"
#endif

namespace greta {
namespace gpu {

Position here;

namespace {

constexpr size_t stack_bytes = 128 * 1024;

enum class State { runnable, in_wave, in_block, done };

struct Fiber {
  State state;
  void* stack; /* pointer of the suspended fiber */
};

struct Wave {
  int arrived;
  unsigned operations; /* that are behind it */
  const char* what;
  bool divergent;
};

const Kernel* kernels = nullptr;

struct Region {
  void* data;
  size_t bytes;
};
std::vector<Region>& regions() {
  static std::vector<Region> all;
  return all;
}

/* The block that runs. */
struct Block {
  const Kernel* kernel;
  const void* params;
  std::vector<Fiber> fibers;
  std::vector<int> order; /* in which fibers are tried */
  std::vector<int> place; /* of a fiber in `order` */
  std::vector<Wave> waves;
  std::vector<unsigned char*> posts; /* by thread: what it brought to a collective */
  char* stacks = nullptr;
  size_t n_stacks = 0;
  void* scheduler;
  int current, live, at_barrier;
  unsigned barriers; /* that are behind this block and those before */
  const char* error;
};
Block block;
char message[256];

void fail(const char* text, int thread) {
  if (block.error != nullptr) return;
  snprintf(message, sizeof message, "kernel %s, block (%d, %d, %d), thread %d: %s", block.kernel->name, here.block_x,
           here.block_y, here.block_z, thread, text);
  block.error = message;
}

void resume(int thread, void** from) {
  block.current = thread;
  here.thread = thread;
  greta_switch_stack(from, block.fibers[static_cast<size_t>(thread)].stack);
}

/* From a fiber that cannot go on, or not yet: to the next one that can; to the scheduler where there is none. */
void leave(int thread) {
  void** from = &block.fibers[static_cast<size_t>(thread)].stack;
  const auto n = static_cast<int>(block.order.size());
  const int start = block.place[static_cast<size_t>(thread)];
  for (int i = 1; i <= n && block.error == nullptr; ++i) {
    const int next = block.order[static_cast<size_t>((start + i) % n)];
    if (block.fibers[static_cast<size_t>(next)].state != State::runnable) continue;
    if (next == thread) return;
    resume(next, from);
    return;
  }
  greta_switch_stack(from, block.scheduler);
}

void run_fiber() {
  block.kernel->body(block.params);
  block.fibers[static_cast<size_t>(block.current)].state = State::done;
  --block.live;
  leave(block.current);
  abort(); /* a finished fiber is never resumed */
}

void prepare(const Kernel& kernel) {
  const auto n = static_cast<size_t>(kernel.threads);
  block.fibers.resize(n);
  block.order.resize(n);
  block.place.resize(n);
  block.posts.resize(n);
  block.waves.resize(n / wave);
  if (n > block.n_stacks) {
    void* memory =
        mmap(nullptr, n * stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      block.error = "no memory for the stacks of the emulated threads";
      return;
    }
    block.stacks = static_cast<char*>(memory); /* a smaller one before it is kept: it is once per process */
    block.n_stacks = n;
  }
}

uint32_t seed_of_environment() {
  const char* text = getenv("GRETA_EMULATED_SEED");
  return text == nullptr ? 0u : static_cast<uint32_t>(strtoul(text, nullptr, 10));
}

uint32_t scrambled(uint32_t x) { /* Mueller's integer hash */
  x = ((x >> 16) ^ x) * 0x45d9f3bu;
  x = ((x >> 16) ^ x) * 0x45d9f3bu;
  return (x >> 16) ^ x;
}

/* Waves in an order drawn from the seed, each wave's lanes from a drawn one on. */
void shuffle_order(uint32_t seed) {
  const auto n_waves = static_cast<uint32_t>(block.waves.size());
  std::vector<uint32_t> waves(n_waves);
  for (uint32_t i = 0; i < n_waves; ++i) waves[i] = i;
  for (uint32_t i = n_waves; i > 1; --i) std::swap(waves[i - 1], waves[scrambled(seed + i) % i]);
  for (uint32_t i = 0; i < n_waves; ++i) {
    const uint32_t first = seed == 0 ? 0 : scrambled(seed ^ (i + 77u)) % wave;
    for (uint32_t lane = 0; lane < wave; ++lane) {
      const uint32_t thread = waves[i] * wave + (first + lane) % wave, place = i * wave + lane;
      block.order[place] = static_cast<int>(thread);
      block.place[thread] = static_cast<int>(place);
    }
  }
}

void start_fibers() {
  for (size_t i = 0; i < block.fibers.size(); ++i) {
    void** top = reinterpret_cast<void**>(block.stacks + (i + 1) * stack_bytes);
#if defined(__x86_64__)
    top -= 1; /* as after a call: 16-byte aligned but for the return address */
    *--top = reinterpret_cast<void*>(&run_fiber);
    for (int word = 0; word < saved_words; ++word) *--top = nullptr;
#else
    top -= 20;
    memset(top, 0, 160);
    top[11] = reinterpret_cast<void*>(&run_fiber); /* x30 */
#endif
    block.fibers[i] = {State::runnable, top};
  }
}

void run_block(int x, int y, int z, uint32_t seed) {
  here = {0, x, y, z};
  for (const Region& region : regions()) memset(region.data, 0xff, region.bytes);
  for (Wave& own : block.waves) own = {0, 0, nullptr, false};
  block.live = block.kernel->threads;
  block.at_barrier = 0;
  ++block.barriers;
  shuffle_order(seed == 0 ? 0 : scrambled(seed + scrambled(static_cast<uint32_t>(x + 131 * y + 65537 * z))));
  start_fibers();
  resume(block.order[0], &block.scheduler);
  if (block.live == 0 || block.error != nullptr) return;
  for (size_t i = 0; i < block.fibers.size(); ++i) {
    const State state = block.fibers[i].state;
    if (state == State::in_block)
      fail("waits at a barrier that not all threads of the block reach", static_cast<int>(i));
    if (state == State::in_wave) fail("waits in a wave operation that not all lanes reach", static_cast<int>(i));
  }
}

}  // namespace

Kernel::Kernel(const char* kernel, int block_threads, Body entry)
    : name(kernel), threads(block_threads), body(entry), next(kernels) {
  kernels = this;
}

const Kernel* find_kernel(const char* name) {
  for (const Kernel* kernel = kernels; kernel != nullptr; kernel = kernel->next) {
    if (strcmp(kernel->name, name) == 0) return kernel;
  }
  return nullptr;
}

const char* launch(const Kernel& kernel, int blocks_x, int blocks_y, int blocks_z, const void* params) {
  block.kernel = &kernel;
  block.params = params;
  block.error = nullptr;
  prepare(kernel);
  const uint32_t seed = seed_of_environment();
  for (int z = 0; z < blocks_z; ++z) {
    for (int y = 0; y < blocks_y; ++y) {
      for (int x = 0; x < blocks_x; ++x) {
        if (block.error == nullptr) run_block(x, y, z, seed);
      }
    }
  }
  return block.error;
}

void poisoned_at_start(void* data, size_t bytes) {
  if (data == nullptr) abort(); /* no memory for a kernel's shared array */
  regions().push_back({data, bytes});
}

bool is_shared(const void* address) {
  for (const Region& region : regions()) {
    if (static_cast<size_t>(static_cast<const char*>(address) - static_cast<const char*>(region.data)) < region.bytes)
      return true;
  }
  return false;
}

Standing standing() {
  return {block.current, block.barriers, block.waves[static_cast<size_t>(block.current / wave)].operations};
}

void stop(const char* text) {
  fail(text, block.current);
}

void sync() {
  const int thread = block.current;
  if (++block.at_barrier == block.kernel->threads) {
    block.at_barrier = 0;
    ++block.barriers;
    for (Fiber& fiber : block.fibers) fiber.state = State::runnable;
    return;
  }
  block.fibers[static_cast<size_t>(thread)].state = State::in_block;
  leave(thread);
}

void collective(const char* what, void* data, Act act) {
  const int thread = block.current, first = thread / wave * wave;
  Wave& own = block.waves[static_cast<size_t>(thread / wave)];
  block.posts[static_cast<size_t>(thread)] = static_cast<unsigned char*>(data);
  if (own.arrived == 0) own.what = what;
  if (own.what != what && strcmp(own.what, what) != 0) {
    fail("lanes of one wave meet in different operations", thread);
    leave(thread);
  }
  if (++own.arrived == wave) {
    own.arrived = 0;
    ++own.operations;
    act(&block.posts[static_cast<size_t>(first)]);
    for (int i = first; i < first + wave; ++i) block.fibers[static_cast<size_t>(i)].state = State::runnable;
    return;
  }
  block.fibers[static_cast<size_t>(thread)].state = State::in_wave;
  leave(thread);
}

namespace {

struct Shuffled {
  float value;
  int lane;
};

void exchange(unsigned char* const* lanes) {
  float taken[wave];
  for (int i = 0; i < wave; ++i) {
    const auto* own = reinterpret_cast<const Shuffled*>(lanes[i]);
    taken[i] = reinterpret_cast<const Shuffled*>(lanes[own->lane & (wave - 1)])->value;
  }
  for (int i = 0; i < wave; ++i) reinterpret_cast<Shuffled*>(lanes[i])->value = taken[i];
}

}  // namespace

float shuffle(float x, int lane) {
  Shuffled own{x, lane};
  collective("shuffle", &own, exchange);
  return own.value;
}

float shuffle_xor(float x, int mask) {
  return shuffle(x, (here.thread & (wave - 1)) ^ mask);
}

}  // namespace gpu
}  // namespace greta
