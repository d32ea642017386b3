/* Errors inside the library are exceptions; guarded() turns them into a status at the ABI. */
#pragma once

#include <exception>
#include <new>

#include "greta_attn.h"

namespace greta {

struct Failure {
  greta_status status;
};

/* Keeps the line for greta_last_error() of this thread and throws Failure. */
[[noreturn]] void fail(greta_status status, const char* format, ...) __attribute__((format(printf, 2, 3)));
/* GRETA_UNSUPPORTED; the message begins with the feature's name and a colon, which the harness reads. */
[[noreturn]] void unsupported(const char* feature, const char* format, ...) __attribute__((format(printf, 2, 3)));
void set_error(const char* text) noexcept;

template <class Body>
greta_status guarded(Body&& body) noexcept {
  try {
    body();
    return GRETA_OK;
  } catch (const Failure& failure) {
    return failure.status;
  } catch (const std::bad_alloc&) {
    set_error("out of memory");
    return GRETA_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    set_error(error.what());
    return GRETA_INTERNAL;
  }
}

}  // namespace greta
