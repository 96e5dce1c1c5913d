#include "core/cpu/matmul.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>
#include <unordered_map>

#include <oneapi/dnnl/dnnl.hpp>

#include "core/base/error.h"
#include "core/cpu/packing_kernels.h"
#include "core/cpu/parallel_for.h"

namespace ringbolt::cpu {
namespace {

using dnnl::memory;

memory::data_type type_of(DType dtype) {
  return dtype == DType::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

/// A matrix operand as oneDNN sees it: rows x columns with the strides of the (perhaps transposed) view.
struct Operand {
  int64_t rows;
  int64_t columns;
  int64_t row_stride;
  int64_t column_stride;
  DType dtype;

  static Operand of(ConstView x, Transpose transpose) {
    const int64_t columns = x.row_elements();
    const int64_t stride = x.rows() <= 1 ? columns : x.row_stride();
    if (transpose == Transpose::yes) return {columns, x.rows(), 1, stride, x.dtype()};
    return {x.rows(), columns, stride, 1, x.dtype()};
  }
  memory::desc desc() const { return {{rows, columns}, type_of(dtype), {row_stride, column_stride}}; }
  auto key() const { return std::tie(rows, columns, row_stride, column_stride, dtype); }
};

/// How the second operand lies in memory.
enum class Layout { strided, panels };

struct Key {
  Operand a;
  Operand b;
  Operand c;
  Update update;
  bool has_bias;
  DType bias_dtype;
  Layout layout = Layout::strided;

  friend bool operator<(const Key& x, const Key& y) {
    const auto order = [](const Key& k) {
      return std::tuple_cat(k.a.key(), k.b.key(), k.c.key(), std::tie(k.update, k.has_bias, k.bias_dtype, k.layout));
    };
    return order(x) < order(y);
  }
};

/// Panels of kPanelColumns columns, as PackingOfType writes them.
memory::desc panels_desc(const Operand& b) {
  using Tag = memory::format_tag;
  return {{b.rows, b.columns}, type_of(b.dtype), b.dtype == DType::bf16 ? Tag::BA16a64b2a : Tag::BA16a64b};
}

dnnl::matmul::primitive_desc describe(const Key& key, const memory::desc& b, const dnnl::engine& engine) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::library);
  if (key.update == Update::accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0F);
    attributes.set_post_ops(sum);
  }
  const memory::desc bias({1, key.c.columns}, type_of(key.bias_dtype), {key.c.columns, 1});
  const auto descriptor = key.has_bias ? dnnl::matmul::desc(key.a.desc(), b, bias, key.c.desc())
                                       : dnnl::matmul::desc(key.a.desc(), b, key.c.desc());
  return {descriptor, attributes, engine};
}

/// Empty where oneDNN would rather have the second operand in another layout than panels (by instruction set and
/// shape).
std::optional<dnnl::matmul> create(const Key& key, const dnnl::engine& engine) {
  if (key.layout == Layout::strided) return dnnl::matmul(describe(key, key.b.desc(), engine));
  const memory::desc any({key.b.rows, key.b.columns}, type_of(key.b.dtype), memory::format_tag::any);
  const auto description = describe(key, any, engine);
  if (description.weights_desc() != panels_desc(key.b)) return std::nullopt;
  return dnnl::matmul(description);
}

void require_match(const Key& key) {
  if (key.a.columns != key.b.rows || key.a.rows != key.c.rows || key.b.columns != key.c.columns) {
    throw std::logic_error(concat("matmul: (", key.a.rows, ", ", key.a.columns, ") x (", key.b.rows, ", ",
                                  key.b.columns, ") is not (", key.c.rows, ", ", key.c.columns, ")"));
  }
  if (key.a.dtype != key.b.dtype || (key.c.dtype != key.a.dtype && key.c.dtype != DType::f32)) {
    throw std::logic_error("matmul: operand types do not go together");
  }
}

// Which products are packed. Measured: from these sizes on packing is not slower, and below them it can be.
constexpr int64_t kLeastRows = 512;
constexpr int64_t kLeastDepth = 64;
constexpr int64_t kLeastDepthOfTranspose = 1024;  // where the first operand lies transposed
constexpr int64_t kMostPanelBytes = 64 << 20;     // bounds the memory that packing takes

/// Rows of the first operand that are transposed at a time: 2 MiB at a depth of 2048.
constexpr int64_t kTransposedRows = 256;

bool lies_transposed(const Operand& x) { return x.column_stride != 1; }

bool is_large(const Key& key) {
  const int64_t least_depth = lies_transposed(key.a) ? kLeastDepthOfTranspose : kLeastDepth;
  return key.c.rows >= kLeastRows && key.b.columns >= kPanelColumns && key.b.rows >= least_depth &&
         key.b.rows * key.b.columns * size_of(key.b.dtype) <= kMostPanelBytes;
}

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/// Elements in kDepthWords words.
int64_t depth_unit(DType dtype) { return kDepthWords * 4 / size_of(dtype); }

/// The depth of a product whose first operand is transposed into dense rows: whole words, and one unit more where rows
/// would else lie a multiple of 4 KiB apart, all in one set of the cache. What is added is zero in both operands.
int64_t padded_depth(const Operand& a) {
  const int64_t depth = round_up(a.columns, depth_unit(a.dtype));
  return depth * size_of(a.dtype) % 4096 == 0 ? depth + depth_unit(a.dtype) : depth;
}

/// One call: what to compute on what.
struct Call {
  Key key;
  const std::byte* a;
  const std::byte* b;
  std::byte* c;
  const std::byte* bias;
};

/// Packs b (rows, columns) into panels of `depth` rows.
void pack(const PackingOfType& kernels, const Operand& b, const std::byte* from, int64_t depth, std::byte* panels) {
  const int64_t bytes = size_of(b.dtype);
  const int64_t unit = depth_unit(b.dtype);
  const int64_t panel_words = round_up(depth, unit) * kPanelColumns * bytes / 4;
  if (!lies_transposed(b)) {
    parallel_for(round_up(depth, unit) / unit, [&](int64_t i) {
      kernels.pack_rows(from + i * unit * b.row_stride * bytes, b.row_stride, b.rows - i * unit, b.columns,
                        panels + i * unit * kPanelColumns * bytes, panel_words);
    });
  } else {
    parallel_for(round_up(b.columns, kPanelColumns) / kPanelColumns, [&](int64_t i) {
      const int64_t first = i * kPanelColumns;
      kernels.pack_columns(from + first * b.column_stride * bytes, b.column_stride, b.rows,
                           std::min(kPanelColumns, b.columns - first), panels + i * panel_words * 4, panel_words);
    });
  }
}

/// Rows [first, first + rows) of a, which lies transposed, into dense rows of `depth` elements.
void transpose(const PackingOfType& kernels, const Operand& a, const std::byte* from, int64_t first, int64_t rows,
               int64_t depth, std::byte* to) {
  const int64_t bytes = size_of(a.dtype);
  const int64_t unit = depth_unit(a.dtype);
  parallel_for(depth / unit, [&](int64_t i) {
    kernels.transpose(from + (i * unit * a.column_stride + first) * bytes, a.column_stride, a.columns - i * unit, rows,
                      to + i * unit * bytes, depth);
  });
}

}  // namespace

struct Matmul::Cache {
  Cache(Isa isa, Allocator& lender) : packing(packing_kernels(isa)), allocator(lender) {}

  const PackingKernels& packing;
  Allocator& allocator;
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::mutex mutex;
  std::map<Key, std::optional<dnnl::matmul>> primitives;

  const std::optional<dnnl::matmul>& get(const Key& key) {
    const std::lock_guard lock(mutex);
    const auto found = primitives.find(key);
    if (found != primitives.end()) return found->second;
    return primitives.emplace(key, create(key, engine)).first->second;
  }

  void execute(const dnnl::matmul& primitive, const Call& call) {
    const auto operand = [&](const memory::desc& desc, const std::byte* bytes) {
      return memory(desc, engine, const_cast<std::byte*>(bytes));  // oneDNN's handles are not const
    };
    const Key& key = call.key;
    const memory::desc b = key.layout == Layout::panels ? panels_desc(key.b) : key.b.desc();
    std::unordered_map<int, memory> arguments{{DNNL_ARG_SRC, operand(key.a.desc(), call.a)},
                                              {DNNL_ARG_WEIGHTS, operand(b, call.b)},
                                              {DNNL_ARG_DST, operand(key.c.desc(), call.c)}};
    if (key.has_bias) {
      const Operand row{1, key.c.columns, key.c.columns, 1, key.bias_dtype};
      arguments.emplace(DNNL_ARG_BIAS, operand(row.desc(), call.bias));
    }
    primitive.execute(stream, arguments);
    stream.wait();
  }

  /// The product of packed operands, in blocks of rows where the first one has to be transposed. False, with nothing
  /// done, where oneDNN does not read panels.
  bool execute_packed(const Call& call) {
    const Operand& a = call.key.a;
    const bool transposed = lies_transposed(a);
    const int64_t depth = transposed ? padded_depth(a) : a.columns;
    const int64_t rows_at_once = transposed ? std::min(kTransposedRows, a.rows) : a.rows;
    const auto block = [&](int64_t first) {
      Call part = call;
      part.key.layout = Layout::panels;
      part.key.b = {depth, call.key.b.columns, call.key.b.columns, 1, a.dtype};
      part.key.a.rows = part.key.c.rows = std::min(rows_at_once, a.rows - first);
      if (transposed) part.key.a = {part.key.c.rows, depth, depth, 1, a.dtype};
      part.c += first * call.key.c.row_stride * size_of(call.key.c.dtype);
      return part;
    };
    if (!get(block(0).key)) return false;

    const int64_t element = size_of(a.dtype);
    const PackingOfType& kernels = a.dtype == DType::bf16 ? packing.bf16 : packing.f32;
    const auto panels = allocator.allocate(round_up(depth, depth_unit(a.dtype)) *
                                           round_up(call.key.b.columns, kPanelColumns) * element);
    pack(kernels, call.key.b, call.b, depth, panels.get());
    const auto rows = transposed ? allocator.allocate(rows_at_once * depth * element) : nullptr;
    for (int64_t first = 0; first < a.rows; first += rows_at_once) {
      Call part = block(first);
      part.b = panels.get();
      if (transposed) {
        transpose(kernels, a, call.a, first, part.key.a.rows, depth, rows.get());
        part.a = rows.get();
      }
      execute(*get(part.key), part);
    }
    return true;
  }
};

Matmul::Matmul(Isa isa, Allocator& allocator) : cache_(std::make_unique<Cache>(isa, allocator)) {}
Matmul::~Matmul() = default;

void Matmul::operator()(ConstView a, Transpose transpose_a, ConstView b, Transpose transpose_b, View c, Update update,
                        std::optional<ConstView> bias) {
  const Key key{Operand::of(a, transpose_a),
                Operand::of(b, transpose_b),
                Operand::of(c, Transpose::no),
                update,
                bias.has_value(),
                bias ? bias->dtype() : DType::f32};
  require_match(key);
  if (c.empty()) return;
  const Call call{key, a.bytes(), b.bytes(), c.bytes(), bias ? bias->bytes() : nullptr};
  if (is_large(key) && cache_->execute_packed(call)) return;
  cache_->execute(*cache_->get(key), call);
}

std::string matmul_library() {
  const dnnl::version_t* version = dnnl::version();
  return concat("oneDNN ", version->major, ".", version->minor, ".", version->patch);
}

}  // namespace ringbolt::cpu
