#include "isa.h"

#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "errors.h"
#ifdef GRETA_REFERENCE
#include "attend_reference.h"
#endif

namespace greta {
namespace {

struct Table {
  Isa entries[5] = {};
  int size = 0;

  Table() {
#ifdef GRETA_HAVE_X86
    __builtin_cpu_init();
    const bool fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (fma && __builtin_cpu_supports("avx512f")) entries[size++] = {"avx512", &avx512::kernels};
    if (fma) entries[size++] = {"avx2", &avx2::kernels};
#endif
    entries[size++] = {"portable", &portable::kernels};
#ifdef GRETA_REFERENCE
    entries[size++] = {"reference", &reference::kernels};
#endif
  }
};

const Table& table() {
  static const Table usable;
  return usable;
}

bool is_known(const char* name) {
  for (const char* known : {"portable", "avx2", "avx512"}) {
    if (std::strcmp(known, name) == 0) return true;
  }
  return false;
}

const Isa* find(const char* name) {
  for (const Isa* isa = usable_isas(); isa->name != nullptr; ++isa) {
    if (std::strcmp(isa->name, name) == 0) return isa;
  }
  return nullptr;
}

const char* asked() {
  const char* name = std::getenv("GRETA_CPU_ISA");
  return name != nullptr && *name != '\0' ? name : nullptr;
}

}  // namespace

const Isa* usable_isas() {
  return table().entries;
}

const Isa& best_isa() {
  const char* name = asked();
  const Isa* isa = name == nullptr ? nullptr : find(name);
  return isa != nullptr ? *isa : *usable_isas();
}

const Isa& chosen_isa() {
  const char* name = asked();
  if (name == nullptr) return *usable_isas();
  const Isa* isa = find(name);
  if (isa != nullptr) return *isa;
  if (!is_known(name)) {
    fail(GRETA_INVALID_ARGUMENT, "GRETA_CPU_ISA is '%s', expected portable, avx2 or avx512", name);
  }
  fail(GRETA_INVALID_ARGUMENT, "GRETA_CPU_ISA is '%s', which this processor does not have; the best here is '%s'", name,
       usable_isas()->name);
}

}  // namespace greta
