/* A call's arrays on the device: copies where the caller's are the host's, the caller's own where they are the
 * device's. */
#pragma once

#include "hip_session.h"

namespace greta {

/* Checks the batch as far as the host can read it, and puts it where kernels can. `pages`: the call reads or writes the
 * cache. */
BatchParams staged_batch(greta_session& session, const greta_batch* batch, bool pages);

/* Tensors of one call, in the order in which they are staged. */
class Tensors {
 public:
  explicit Tensors(greta_session& session) : session_(session) {}
  Tensor input(const greta_tensor& tensor, int32_t n_tokens, int32_t heads, int32_t dim) {
    return staged(tensor, n_tokens, heads, dim, false);
  }
  /* Also for what is changed in place. */
  Tensor output(const greta_tensor& tensor, int32_t n_tokens, int32_t heads, int32_t dim) {
    return staged(tensor, n_tokens, heads, dim, true);
  }
  /* Copies the outputs home and waits, where the caller's arrays are the host's; fails where a kernel complained. */
  void finish();

 private:
  Tensor staged(const greta_tensor& tensor, int32_t n_tokens, int32_t heads, int32_t dim, bool output);

  struct Copy {
    void *host, *device;
    size_t bytes;
  };
  greta_session& session_;
  size_t used_ = 0;
  std::vector<Copy> home_;
};

}  // namespace greta
