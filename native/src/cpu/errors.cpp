#include "errors.h"

#include <cstdarg>
#include <cstdio>

namespace greta {
namespace {

thread_local char message[512] = "";

}  // namespace

void set_error(const char* text) noexcept {
  std::snprintf(message, sizeof message, "%s", text);
}

void fail(greta_status status, const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::vsnprintf(message, sizeof message, format, args);
  va_end(args);
  throw Failure{status};
}

void unsupported(const char* feature, const char* format, ...) {
  char words[400];
  va_list args;
  va_start(args, format);
  std::vsnprintf(words, sizeof words, format, args);
  va_end(args);
  fail(GRETA_UNSUPPORTED, "%s: %s", feature, words);
}

}  // namespace greta

const char* greta_last_error(void) {
  return greta::message;
}
