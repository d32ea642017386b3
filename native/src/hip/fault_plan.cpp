/* The faulty twin's greta_fault_set, greta_fault_clear and greta_fault_fired: one fault in this process. */
#include "fault_plan.h"

#include <cstring>

#include "dtypes.h"
#include "errors.h"
#include "fault_points.h"
#include "greta_faults.h"

namespace greta {
namespace {

constexpr const char* names[] = {
#define GRETA_FAULT_NAME(name) #name,
    GRETA_FAULT_KINDS(GRETA_FAULT_NAME)
#undef GRETA_FAULT_NAME
};

struct Plan {
  int32_t kind = -1, phase = -1, layer = -1, head = -1, position = -1;
};
Plan plan;
int64_t fired = 0; /* attention calls whose result the plan changed */

int32_t kind_of(const char* name) {
  if (name == nullptr) fail(GRETA_INVALID_ARGUMENT, "kind is NULL");
  int32_t index = 0;
  for (const char* known : names) {
    if (std::strcmp(known, name) == 0) return index;
    ++index;
  }
  char list[256] = "";
  for (const char* known : names) {
    if (*list != '\0') std::strncat(list, ", ", sizeof list - std::strlen(list) - 1);
    std::strncat(list, known, sizeof list - std::strlen(list) - 1);
  }
  /* a kind that the CPU's twin knows may have no place in these kernels: the case is then not run */
  unsupported("fault", "kind '%s'; this twin has %s", name, list);
}

void check_choice(const char* name, int32_t value, int32_t highest) {
  if (value < -1 || value > highest) fail(GRETA_INVALID_ARGUMENT, "%s is %d, expected -1 .. %d", name, value, highest);
}

bool matches(int32_t asked, int32_t actual) {
  return asked == -1 || asked == actual;
}

void append(std::vector<char>& bytes, const greta_session& session, const Tensor& tensor, size_t item, int32_t dim,
            const AttendParams& params) {
  if (tensor.data == nullptr) return;
  const int64_t count =
      (params.batch.n_tokens - 1) * tensor.token_stride + (params.n_heads - 1) * tensor.head_stride + dim;
  const size_t before = bytes.size(), more = static_cast<size_t>(count) * item;
  bytes.resize(before + more);
  runtime::to_host(bytes.data() + before, tensor.data, more, session.stream);
}

std::vector<char> results(const greta_session& session, const AttendParams& params) {
  std::vector<char> bytes;
  append(bytes, session, params.out, dtype_size(params.dtype), params.cache.dv, params);
  append(bytes, session, params.lse, sizeof(float), 1, params);
  runtime::wait(session.stream);
  return bytes;
}

}  // namespace

void attend_planted(greta_session& session, AttendParams& params, int32_t layer, int32_t phase, LaunchAttend launch) {
  params.fault = {-1, -1, -1};
  launch(session, params, phase);
  if (plan.kind == -1 || !matches(plan.phase, phase) || !matches(plan.layer, layer)) return;
  const std::vector<char> right = results(session, params);
  params.fault = {plan.kind, plan.head, plan.position};
  launch(session, params, phase);
  if (results(session, params) != right) ++fired;
}

}  // namespace greta

greta_status greta_fault_set(const char* kind, int32_t phase, int32_t layer, int32_t head, int32_t position, double) {
  return greta::guarded([&] {
    greta::check_choice("phase", phase, GRETA_DECODE);
    greta::check_choice("layer", layer, INT32_MAX);
    greta::check_choice("head", head, INT32_MAX);
    greta::check_choice("position", position, INT32_MAX);
    greta::plan = {greta::kind_of(kind), phase, layer, head, position};
    greta::fired = 0;
  });
}

greta_status greta_fault_clear(void) {
  greta::plan = {};
  greta::fired = 0;
  return GRETA_OK;
}

int64_t greta_fault_fired(void) {
  return greta::fired;
}
