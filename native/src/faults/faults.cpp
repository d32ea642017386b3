/* greta_fault_set, greta_fault_clear, greta_fault_fired. */
#include "greta_faults.h"

#include <cstring>

#include "errors.h"
#include "fault_sessions.h"
#include "plan.h"

namespace greta {

FaultPlan fault_plan;

namespace {

constexpr const char* names[] = {
#define GRETA_FAULT_NAME(name) #name,
    GRETA_FAULT_KINDS(GRETA_FAULT_NAME)
#undef GRETA_FAULT_NAME
};

int32_t kind_of(const char* name) {
  if (name == nullptr) fail(GRETA_INVALID_ARGUMENT, "kind is NULL");
  int32_t index = 0;
  for (const char* known : names) {
    if (std::strcmp(known, name) == 0) return index;
    ++index;
  }
  char list[512] = "";
  for (const char* known : names) {
    if (*list != '\0') std::strncat(list, ", ", sizeof list - std::strlen(list) - 1);
    std::strncat(list, known, sizeof list - std::strlen(list) - 1);
  }
  fail(GRETA_INVALID_ARGUMENT, "kind is '%s', expected one of %s", name, list);
}

void check_choice(const char* name, int32_t value, int32_t highest) {
  if (value < -1 || value > highest) fail(GRETA_INVALID_ARGUMENT, "%s is %d, expected -1 .. %d", name, value, highest);
}

void plant(const FaultPlan& plan) {
  fault_plan = plan;
  forget_calls();
  forget_rows();
}

}  // namespace

void session_closed(const greta_session* session) {
  if (session == nullptr) return;
  forget_calls(session);
  forget_rows(session);
}

}  // namespace greta

greta_status greta_fault_set(const char* kind, int32_t phase, int32_t layer, int32_t head, int32_t position,
                             double magnitude) {
  return greta::guarded([&] {
    greta::check_choice("phase", phase, GRETA_DECODE);
    greta::check_choice("layer", layer, INT32_MAX);
    greta::check_choice("head", head, INT32_MAX);
    greta::check_choice("position", position, INT32_MAX);
    greta::FaultPlan plan;
    plan.kind = greta::kind_of(kind);
    plan.phase = phase;
    plan.layer = layer;
    plan.head = head;
    plan.position = position;
    plan.magnitude = magnitude;
    greta::check_place(plan);
    greta::plant(plan);
  });
}

greta_status greta_fault_clear(void) {
  return greta::guarded([] { greta::plant({}); });
}

int64_t greta_fault_fired(void) {
  return greta::fault_plan.fired;
}
