/* seeds COUNT [FOLDER]: makes up COUNT programs, every second one without a hostile value, and runs each; with a folder
 * it also writes their bytes there, as a corpus to fuzz from. Without the fuzzer this is a test of the ABI's promises.
 */
#include <cstdio>
#include <cstdlib>
#include <string>

#include "program.h"

namespace {

bool save(const std::string& folder, int number, const std::vector<uint8_t>& bytes) {
  const std::string path = folder + "/seed" + std::to_string(number);
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return false;
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  return std::fclose(file) == 0 && written;
}

}  // namespace

int main(int argc, char** argv) {
  const int count = argc > 1 ? std::atoi(argv[1]) : 400;
  for (int i = 0; i < count; ++i) {
    Source in(static_cast<uint32_t>(i), 6000, i % 2 == 1);
    run_program(in);
    if (argc > 2 && !save(argv[2], i, in.bytes())) {
      std::fprintf(stderr, "cannot write into %s\n", argv[2]);
      return 1;
    }
  }
  const Reached& all = reached();
  std::printf("seeds: %d programs, %ld calls, %ld went well, %ld refused, %ld without memory\n", count, all.calls,
              all.ok, all.refused, all.without_memory);
  /* a generator whose programs are all refused, or never, tests little */
  return count < 100 || (all.ok > all.calls / 4 && all.refused > all.calls / 50 && all.without_memory > 0) ? 0 : 1;
}
