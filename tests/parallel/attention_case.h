// One attention problem, solved whole by the oracle and in parts by the ranks of a mesh.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "parallel/distributed_attention.h"
#include "tests/parallel/rank_device.h"
#include "tests/support/reference/attention.h"

namespace ringbolt::testing_support {

struct Heads {
  int64_t query;  ///< H
  int64_t key;    ///< K
  int64_t dim;    ///< D
};

/// A whole sequence. Inputs are rounded to `dtype`: the oracle sees what the ranks see.
struct WholeProblem {
  std::vector<int64_t> offsets;
  AttentionSlice::Mask mask;
  Heads heads;
  DType dtype;
  reference::Values q, k, v, dout;  // (S, heads, D)

  int64_t tokens() const { return offsets.back(); }
  reference::AttentionShape shape() const;
};

/// Uniform in [-1, 1], q three times that: logits of deviation about 1.
WholeProblem random_problem(std::vector<int64_t> offsets, AttentionSlice::Mask mask, Heads heads,
                            DType dtype, uint64_t seed);

struct WholeResult {
  reference::Values out, lse, dq, dk, dv;
};

/// By the oracle.
WholeResult solve_whole(const WholeProblem& problem);

/// Relative to each tensor's norm; infinite where something is not finite that should be.
struct Errors {
  double out = 0, lse = 0, dq = 0, dk = 0, dv = 0;
  double worst() const;
  void include(const Errors& other);
};
/// A norm below that of a tensor of `least` everywhere counts as that: gradients that cancel to
/// zero.
Errors errors_of(const WholeResult& actual, const WholeResult& expected, double least = 0);

/// How the ranks share the work.
struct Sharing {
  MeshShape mesh;
  LayoutKind layout = LayoutKind::zigzag;
  AttentionChoice choice;
  std::string str() const;
};

/// Attention forward and backward of this rank's rows through make_distributed_attention; every
/// rank returns the whole result. Padding rows of all inputs are NaN. With `second` the same object
/// then solves that one, of the same shape, and returns its result. Attention in another type than
/// the model's has no backward: gradients then are no numbers of it. Collective.
WholeResult solve_on_ranks(Backend& backend, Mesh& mesh, const WholeProblem& problem,
                           const Sharing& sharing, const WholeProblem* second = nullptr);

/// All that run on `ranks` ranks with these heads: meshes, layouts, strategies, backward sides.
std::vector<Sharing> all_sharings(int ranks, Heads heads);

/// One mesh a shape: splitting communicators for every case would take longer than the cases.
class Meshes {
 public:
  explicit Meshes(Communicator& world) : Meshes(world, world) {}
  /// `tensors`: the ranks of world, for the backend's memory.
  Meshes(Communicator& world, Communicator& tensors) : world_(world), tensors_(tensors) {}
  Mesh& operator()(const MeshShape& shape);

 private:
  Communicator& world_;
  Communicator& tensors_;
  std::map<std::array<int, 3>, std::unique_ptr<Mesh>> meshes_;
};

/// Relative to each tensor's norm. f32: sums of logits near 1, each with an error of a few 2^-24.
/// bf16: kernels round probabilities and dS to 2^-9 before the second product, the result is
/// rounded once more, and delta comes from the output as it is kept, in bf16: where a query sees
/// few keys, dS = P (dP - delta) cancels and that error of 2^-9 weighs more.
inline double attention_bound(DType dtype) { return dtype == DType::f32 ? 2e-6 : 0x1p-6; }

/// Solves `problem` in every way that world's ranks can; rank 0 expects errors of at most `most`.
/// `least`: see errors_of. The worst errors and the number of cases on rank 0. Collective.
struct Outcome {
  Errors worst;
  int64_t cases = 0;
};
Outcome expect_every_way(Communicator& world, const std::string& what, const WholeProblem& problem,
                         double most, double least = 0, const RankDevice& device = {});

/// The same for documents of prime, tiny and other odd lengths, packed or not, causal or full, as
/// many key/value heads as query heads or fewer, f32 and bf16. Prints the worst errors; the number
/// of cases on rank 0. Collective.
int64_t expect_whole_sequence_every_way(Communicator& world, const RankDevice& device = {});

}  // namespace ringbolt::testing_support
