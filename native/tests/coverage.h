/* Draws by name, counted value by value, so that a run can show that it met every one. */
#pragma once

#include <initializer_list>
#include <map>
#include <random>
#include <string>
#include <utility>

#include "check.h"

class Coverage {
 public:
  /* One of the values, each with its name; all are wanted. */
  template <class T>
  T draw(std::mt19937& rng, const char* dimension, std::initializer_list<std::pair<const char*, T>> values) {
    std::map<std::string, long>& counts = counts_[dimension];
    for (const auto& value : values) counts[value.first]; /* zero, where it was never drawn */
    const auto& chosen = values.begin()[std::uniform_int_distribution<size_t>(0, values.size() - 1)(rng)];
    ++counts[chosen.first];
    return chosen.second;
  }
  /* The same for numbers, which are their own names. */
  int32_t draw(std::mt19937& rng, const char* dimension, std::initializer_list<int32_t> values) {
    std::map<std::string, long>& counts = counts_[dimension];
    for (int32_t value : values) counts[std::to_string(value)];
    const int32_t chosen = values.begin()[std::uniform_int_distribution<size_t>(0, values.size() - 1)(rng)];
    ++counts[std::to_string(chosen)];
    return chosen;
  }
  bool draw(std::mt19937& rng, const char* dimension) { return draw(rng, dimension, {0, 1}) == 1; }
  /* What came of the draws. */
  void saw(const char* dimension, const char* value, bool did) { counts_[dimension][value] += did ? 1 : 0; }

  /* Fails for each value that was never drawn; prints the rarest of each dimension. */
  void check_all() const {
    for (const auto& [dimension, counts] : counts_) {
      auto rarest = counts.begin();
      for (auto it = counts.begin(); it != counts.end(); ++it) {
        CHECK(it->second > 0, "%s %s was never drawn", dimension.c_str(), it->first.c_str());
        if (it->second < rarest->second) rarest = it;
      }
      std::printf("  %s: %zu values, the rarest (%s) %ld times\n", dimension.c_str(), counts.size(),
                  rarest->first.c_str(), rarest->second);
    }
  }

 private:
  std::map<std::string, std::map<std::string, long>> counts_;
};
