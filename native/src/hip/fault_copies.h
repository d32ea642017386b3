/* What the faulty twin reads from the device and puts there. */
#pragma once

#include <vector>

#include "fault_calls.h"
#include "wrong.h"

namespace greta {

/* `count` values of device memory, once all that was asked of the stream is done. */
template <class T>
std::vector<T> fetched(const greta_session& session, const T* device, size_t count) {
  std::vector<T> values(count);
  runtime::to_host(values.data(), device, count * sizeof(T), session.stream);
  runtime::wait(session.stream);
  return values;
}

/* `values` on the device, as long as `room` lives. */
template <class T>
T* put(const greta_session& session, Buffer& room, const std::vector<T>& values) {
  const size_t bytes = values.size() * sizeof(T);
  auto* device = static_cast<T*>(room.reserve(bytes));
  runtime::to_device(device, values.data(), bytes, session.stream);
  runtime::wait(session.stream);
  return device;
}

/* A batch's arrays as the host sees them; `rows` point into `pages`. */
struct HostBatch {
  std::vector<int32_t> pages;
  std::vector<CallRows> rows;

  HostBatch(const greta_session& session, const BatchParams& batch);
  HostBatch(const HostBatch&) = delete;
  HostBatch& operator=(const HostBatch&) = delete;
};

/* The layer's rows as they were before they were last rewritten, laid out as the cache is; NULL where no row of it was
 * ever written. */
struct StaleRows {
  std::vector<char> k, v;
};
const StaleRows* stale_rows(const greta_session& session, int32_t layer);

}  // namespace greta
