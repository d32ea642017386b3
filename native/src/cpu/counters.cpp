#include "counters.h"

#include <cstdio>
#include <cstring>

#include "call_checks.h"
#include "errors.h"
#include "session.h"

namespace greta {

void Counters::count(const char* kernel, int32_t phase) noexcept {
  for (int32_t i = 0; i < size; ++i) {
    if (entries[i].phase == phase && std::strcmp(entries[i].kernel, kernel) == 0) {
      ++entries[i].calls;
      return;
    }
  }
  if (size == capacity) return;
  greta_counter& entry = entries[size++];
  std::snprintf(entry.kernel, sizeof entry.kernel, "%s", kernel);
  entry.phase = phase;
  entry.calls = 1;
}

}  // namespace greta

greta_status greta_counters(greta_session* session, greta_counter* counters, int32_t capacity, int32_t* count) {
  return greta::guarded([&] {
    greta::require_session(session);
    greta::check_counters(counters, capacity, count);
    const greta::Counters& own = session->counters;
    for (int32_t i = 0; i < own.size && i < capacity; ++i) counters[i] = own.entries[i];
    *count = own.size;
  });
}
