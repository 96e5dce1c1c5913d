#include "core/cuda/cudnn.h"

#include <cudnn_frontend.h>

#include <map>
#include <unordered_map>

#include "core/base/error.h"

namespace ringbolt::cuda {
namespace {

namespace fe = cudnn_frontend;
using TensorPointer = std::shared_ptr<fe::graph::Tensor_attributes>;

enum TensorId : int64_t {
  kQ = 1,
  kK,
  kV,
  kOut,
  kStats,
  kDout,
  kDq,
  kDk,
  kDv,
  kQueryLengths,
  kKeyLengths,
  kLargestWeight,
  kLargestOut,
  kScales  ///< and the others behind it
};

fe::DataType_t type_of(DType dtype) {
  return dtype == DType::e4m3 ? fe::DataType_t::FP8_E4M3 : fe::DataType_t::BFLOAT16;
}

/// (batch, heads, rows, D), in that order of dimensions whatever the strides.
TensorPointer heads_tensor(fe::graph::Graph& graph, TensorId id, const AttentionGraph& g,
                           int64_t heads, int64_t rows, RowStrides strides) {
  return graph.tensor(fe::graph::Tensor_attributes()
                          .set_uid(id)
                          .set_dim({g.batch, heads, rows, g.head_dim})
                          .set_stride({strides.batch, g.head_dim, strides.row, 1})
                          .set_data_type(type_of(g.dtype)));
}

RowStrides packed(int64_t rows, int64_t heads, int64_t head_dim) {
  return {heads * head_dim, rows * heads * head_dim};
}

TensorPointer lengths_tensor(fe::graph::Graph& graph, TensorId id, int64_t batch) {
  return graph.tensor(fe::graph::Tensor_attributes()
                          .set_uid(id)
                          .set_dim({batch, 1, 1, 1})
                          .set_stride({1, 1, 1, 1})
                          .set_data_type(fe::DataType_t::INT32));
}

void describe_output(const TensorPointer& tensor, TensorId id, const AttentionGraph& g,
                     int64_t heads, int64_t rows, RowStrides strides) {
  const DType dtype = g.direction == Direction::forward ? g.out_dtype : DType::bf16;
  tensor->set_output(true)
      .set_uid(id)
      .set_dim({g.batch, heads, rows, g.head_dim})
      .set_stride({strides.batch, g.head_dim, strides.row, 1})
      .set_data_type(type_of(dtype));
}

/// One float.
void describe_scalar(fe::graph::Tensor_attributes& tensor, int64_t id) {
  tensor.set_uid(id)
      .set_dim({1, 1, 1, 1})
      .set_stride({1, 1, 1, 1})
      .set_data_type(fe::DataType_t::FLOAT);
}

TensorPointer scale_tensor(fe::graph::Graph& graph, Fp8Scale which) {
  fe::graph::Tensor_attributes scalar;
  describe_scalar(scalar, kScales + static_cast<int64_t>(which));
  return graph.tensor(scalar);
}

/// Masks and lengths, which both directions set alike. No mask is set where every query sees every
/// key.
template <class Attributes>
void set_masks(fe::graph::Graph& graph, const AttentionGraph& g, Attributes& attributes) {
  attributes.set_attn_scale(g.scale);
  if (g.causal) {
    attributes.set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
        .set_diagonal_band_right_bound(0);
  }
  if (g.padded) {
    attributes.set_padding_mask(true)
        .set_seq_len_q(lengths_tensor(graph, kQueryLengths, g.batch))
        .set_seq_len_kv(lengths_tensor(graph, kKeyLengths, g.batch));
  }
}

void add_forward(fe::graph::Graph& graph, const AttentionGraph& g) {
  const TensorPointer q = heads_tensor(graph, kQ, g, g.heads, g.queries, g.q);
  const TensorPointer k = heads_tensor(graph, kK, g, g.kv_heads, g.keys, g.k);
  const TensorPointer v = heads_tensor(graph, kV, g, g.kv_heads, g.keys, g.v);
  auto attributes = fe::graph::SDPA_attributes().set_name("attention").set_generate_stats(true);
  set_masks(graph, g, attributes);
  TensorPointer out, stats;
  if (g.dtype == DType::e4m3) {
    const auto scale = [&](Fp8Scale which) { return scale_tensor(graph, which); };
    const auto results =
        graph.sdpa_fp8(q, k, v, scale(Fp8Scale::descale_q), scale(Fp8Scale::descale_k),
                       scale(Fp8Scale::descale_v), scale(Fp8Scale::descale_weights),
                       scale(Fp8Scale::scale_weights), scale(Fp8Scale::scale_out), attributes);
    out = results[0];
    stats = results[1];
    describe_scalar(results[2]->set_output(true), kLargestWeight);
    describe_scalar(results[3]->set_output(true), kLargestOut);
  } else {
    const auto results = graph.sdpa(q, k, v, attributes);
    out = results[0];
    stats = results[1];
  }
  describe_output(out, kOut, g, g.heads, g.queries, g.out);
  stats->set_output(true)
      .set_uid(kStats)
      .set_dim({g.batch, g.heads, g.queries, 1})
      .set_stride({g.heads * g.queries, g.queries, 1, 1})
      .set_data_type(fe::DataType_t::FLOAT);
}

void add_backward(fe::graph::Graph& graph, const AttentionGraph& g) {
  const TensorPointer q = heads_tensor(graph, kQ, g, g.heads, g.queries, g.q);
  const TensorPointer k = heads_tensor(graph, kK, g, g.kv_heads, g.keys, g.k);
  const TensorPointer v = heads_tensor(graph, kV, g, g.kv_heads, g.keys, g.v);
  const RowStrides of_queries = packed(g.queries, g.heads, g.head_dim);
  const RowStrides of_keys = packed(g.keys, g.kv_heads, g.head_dim);
  const TensorPointer out = heads_tensor(graph, kOut, g, g.heads, g.queries, of_queries);
  const TensorPointer dout = heads_tensor(graph, kDout, g, g.heads, g.queries, g.dout);
  const TensorPointer stats = graph.tensor(fe::graph::Tensor_attributes()
                                               .set_uid(kStats)
                                               .set_dim({g.batch, g.heads, g.queries, 1})
                                               .set_stride({g.heads * g.queries, g.queries, 1, 1})
                                               .set_data_type(fe::DataType_t::FLOAT));
  auto attributes = fe::graph::SDPA_backward_attributes().set_name("attention_backward");
  set_masks(graph, g, attributes);
  const auto [dq, dk, dv] = graph.sdpa_backward(q, k, v, out, dout, stats, attributes);
  describe_output(dq, kDq, g, g.heads, g.queries, of_queries);
  describe_output(dk, kDk, g, g.kv_heads, g.keys, of_keys);
  describe_output(dv, kDv, g, g.kv_heads, g.keys, of_keys);
}

std::unique_ptr<fe::graph::Graph> make_graph(const AttentionGraph& g, int arch) {
  auto graph = std::make_unique<fe::graph::Graph>();
  graph->set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT)
      .set_sm_version(arch);
  if (g.direction == Direction::forward) {
    add_forward(*graph, g);
  } else {
    add_backward(*graph, g);
  }
  return graph;
}

/// A graph on its way to a plan: the first step that failed, and why.
struct Outcome {
  enum class Step { validate, operations, plans, support, build, done };
  Step step;
  std::string reason;
};

/// `handle` null: for the device that the graph was given a description of. The first plan is the
/// heuristics' best.
Outcome make_plan(fe::graph::Graph& graph, cudnnHandle_t handle) {
  const auto failed = [](Outcome::Step step, const fe::error_t& error) {
    return Outcome{step, concat("code ", static_cast<int>(error.code), ": ", error.err_msg)};
  };
  if (const auto error = graph.validate(); error.is_bad())
    return failed(Outcome::Step::validate, error);
  const auto operations =
      handle == nullptr ? graph.build_operation_graph() : graph.build_operation_graph(handle);
  if (operations.is_bad()) return failed(Outcome::Step::operations, operations);
  if (const auto error = graph.create_execution_plans({fe::HeurMode_t::A}); error.is_bad()) {
    return failed(Outcome::Step::plans, error);
  }
  if (const auto error = graph.check_support(); error.is_bad())
    return failed(Outcome::Step::support, error);
  // Not build_plans(): it hides the reason. The next plan, a slower engine, is better than none.
  fe::error_t first;
  for (int64_t i = 0; i < graph.get_execution_plan_count(); ++i) {
    const auto error = graph.build_plan_at_index(i);
    if (error.is_good()) return {Outcome::Step::done, ""};
    if (i == 0) first = error;
    if (handle == nullptr) break;  // what is examined is the first
  }
  return failed(Outcome::Step::build, first);
}

void require_good(const fe::error_t& error, const char* what) {
  if (error.is_good()) return;
  throw DeviceError(
      message(concat("cuDNN attention failed: ", what), error.err_msg,
              "Please report it with the command line and the output of ringbolt info."));
}

void require_usable_version() {
  const auto version = static_cast<int64_t>(cudnnGetVersion());
  if (cudnn_is_usable(version)) return;
  throw DeviceError(message(
      concat("cuDNN ", version / 10000, ".", version / 100 % 100, ".", version % 100,
             " is refused"),
      "Ringbolt needs 9.8 or newer, but not 9.10.0, 9.10.1 or 9.14.0, whose attention is wrong",
      "Install cuDNN 9.19 or newer."));
}

std::string described(const AttentionGraph& g) {
  return concat(g.direction == Direction::forward ? "forward" : "backward",
                g.dtype == DType::e4m3 ? " in fp8" : "", ", batch ", g.batch, ", ", g.queries,
                " x ", g.keys, g.causal ? " causal" : "", g.padded ? " padded" : "", ", heads ",
                g.heads, ":", g.kv_heads, " of ", g.head_dim);
}

struct DestroyHandle {
  void operator()(cudnnHandle_t handle) const noexcept { static_cast<void>(cudnnDestroy(handle)); }
};
using Handle = std::unique_ptr<cudnnContext, DestroyHandle>;

struct Plan {
  std::unique_ptr<fe::graph::Graph> graph;
  int64_t workspace_bytes;
};

}  // namespace

struct CudnnAttention::State {
  cudaStream_t stream;
  Memory& memory;
  int arch;
  Handle handle;
  bool zero_workspace;
  std::map<AttentionGraph, Plan> plans;

  Plan& plan(const AttentionGraph& key) {
    const auto found = plans.find(key);
    if (found != plans.end()) return found->second;
    std::unique_ptr<fe::graph::Graph> graph = make_graph(key, arch);
    const Outcome outcome = make_plan(*graph, handle.get());
    if (outcome.step != Outcome::Step::done) {
      throw DeviceError(message(concat("cuDNN has no plan for attention (", described(key), ")"),
                                outcome.reason,
                                "Please report it with the output of ringbolt info."));
    }
    int64_t bytes = 0;
    require_good(graph->get_workspace_size(bytes), "asking for its workspace");
    return plans.emplace(key, Plan{std::move(graph), bytes}).first->second;
  }
};

CudnnAttention::CudnnAttention(cudaStream_t stream, Memory& memory, int arch) {
  require_usable_version();
  cudnnHandle_t raw = nullptr;
  const auto require = [](cudnnStatus_t status, const char* what) {
    if (status == CUDNN_STATUS_SUCCESS) return;
    throw DeviceError(message(concat("cuDNN cannot be used: ", what), cudnnGetErrorString(status),
                              "Check that its libraries are of one version."));
  };
  require(cudnnCreate(&raw), "creating its handle");
  Handle handle(raw);
  require(cudnnSetStream(raw, stream), "setting its stream");
  const bool zero = workspace_must_be_zeroed(static_cast<int64_t>(cudnnGetVersion()));
  state_ = std::unique_ptr<State>(new State{stream, memory, arch, std::move(handle), zero, {}});
}
CudnnAttention::~CudnnAttention() = default;

void CudnnAttention::run(const AttentionGraph& graph, const AttentionMemory& memory) {
  Plan& plan = state_->plan(graph);
  const Scratch workspace(state_->memory, plan.workspace_bytes);
  if (state_->zero_workspace) {
    RINGBOLT_CUDA(cudaMemsetAsync(workspace.as<void>(), 0,
                                  static_cast<size_t>(plan.workspace_bytes), state_->stream));
  }
  std::unordered_map<int64_t, void*> pointers;
  const auto bind = [&](TensorId id,
                        const void* pointer) {  // cuDNN's pack of pointers is not const
    if (pointer != nullptr) pointers[id] = const_cast<void*>(pointer);
  };
  bind(kQ, memory.q);
  bind(kK, memory.k);
  bind(kV, memory.v);
  bind(kOut, memory.out);
  bind(kStats, memory.stats);
  bind(kDout, memory.dout);
  bind(kDq, memory.dq);
  bind(kDk, memory.dk);
  bind(kDv, memory.dv);
  if (graph.dtype == DType::e4m3) {
    for (int i = 0; i < kFp8Scales; ++i)
      bind(static_cast<TensorId>(kScales + i), memory.scales + i * kFp8ScaleStep);
    bind(kLargestWeight, memory.largest);
    bind(kLargestOut, memory.largest + kFp8ScaleStep);
  }
  if (graph.padded) {
    bind(kQueryLengths, memory.lengths);
    bind(kKeyLengths, memory.lengths + graph.batch);
  }
  require_good(plan.graph->execute(state_->handle.get(), pointers, workspace.as<void>()),
               described(graph).c_str());
}

std::string CudnnAttention::library() {
  const auto version = static_cast<int64_t>(cudnnGetVersion());
  return concat("cuDNN ", version / 10000, ".", version / 100 % 100, ".", version % 100);
}

GraphReport examine_graph(const AttentionGraph& g, const DeviceDescription& device) {
  using Ending = GraphReport::Ending;
  auto properties = std::make_shared<fe::DeviceProperties>();
  if (const auto error = properties->deserialize({device.json.begin(), device.json.end()});
      error.is_bad()) {
    return {Ending::refused, "", 0, "the device's description: " + error.err_msg};
  }
  std::unique_ptr<fe::graph::Graph> graph = make_graph(g, device.arch);
  graph->set_device_properties(properties);
  const Outcome outcome = make_plan(*graph, nullptr);
  GraphReport report{Ending::refused, "", 0, outcome.reason};
  if (outcome.step == Outcome::Step::plans &&
      outcome.reason.find("RUNTIME_PREREQUISITE_MISSING") != std::string::npos) {
    report.ending = Ending::no_library;
  }
  if (outcome.step == Outcome::Step::build || outcome.step == Outcome::Step::done) {
    require_good(graph->get_plan_name_at_index(0, report.engine), "asking for a plan's name");
  }
  if (outcome.step == Outcome::Step::build &&
      outcome.reason.find("CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER") != std::string::npos) {
    report.ending = Ending::no_driver;
  }
  if (outcome.step == Outcome::Step::done) {
    report.ending = Ending::built;
    require_good(graph->get_workspace_size(report.workspace_bytes), "asking for its workspace");
  }
  return report;
}

}  // namespace ringbolt::cuda
