#include "core/cpu/matmul.h"

#include <map>
#include <mutex>
#include <tuple>
#include <unordered_map>

#include <oneapi/dnnl/dnnl.hpp>

#include "core/base/error.h"

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

struct Key {
  Operand a;
  Operand b;
  Operand c;
  Update update;
  bool has_bias;
  DType bias_dtype;

  friend bool operator<(const Key& x, const Key& y) {
    const auto order = [](const Key& k) {
      return std::tuple_cat(k.a.key(), k.b.key(), k.c.key(), std::tie(k.update, k.has_bias, k.bias_dtype));
    };
    return order(x) < order(y);
  }
};

dnnl::matmul create(const Key& key, const dnnl::engine& engine) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::library);
  if (key.update == Update::accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0F);
    attributes.set_post_ops(sum);
  }
  const memory::desc bias({1, key.c.columns}, type_of(key.bias_dtype), {key.c.columns, 1});
  const auto descriptor = key.has_bias ? dnnl::matmul::desc(key.a.desc(), key.b.desc(), bias, key.c.desc())
                                       : dnnl::matmul::desc(key.a.desc(), key.b.desc(), key.c.desc());
  return dnnl::matmul(dnnl::matmul::primitive_desc(descriptor, attributes, engine));
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

}  // namespace

struct Matmul::Cache {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::mutex mutex;
  std::map<Key, dnnl::matmul> primitives;

  dnnl::matmul& get(const Key& key) {
    const std::lock_guard lock(mutex);
    const auto found = primitives.find(key);
    if (found != primitives.end()) return found->second;
    return primitives.emplace(key, create(key, engine)).first->second;
  }
};

Matmul::Matmul() : cache_(std::make_unique<Cache>()) {}
Matmul::~Matmul() = default;

void Matmul::operator()(ConstView a, Transpose transpose_a, ConstView b, Transpose transpose_b, View c, Update update,
                        std::optional<ConstView> bias) {
  const Key key{Operand::of(a, transpose_a),  Operand::of(b, transpose_b),
                Operand::of(c, Transpose::no), update,
                bias.has_value(),              bias ? bias->dtype() : DType::f32};
  require_match(key);
  if (c.empty()) return;
  const dnnl::matmul& primitive = cache_->get(key);
  const auto operand = [&](const Operand& x, const std::byte* bytes) {
    return memory(x.desc(), cache_->engine, const_cast<std::byte*>(bytes));  // oneDNN's handles are not const
  };
  std::unordered_map<int, memory> arguments{{DNNL_ARG_SRC, operand(key.a, a.bytes())},
                                            {DNNL_ARG_WEIGHTS, operand(key.b, b.bytes())},
                                            {DNNL_ARG_DST, operand(key.c, c.bytes())}};
  if (bias) {
    const Operand row{1, key.c.columns, key.c.columns, 1, bias->dtype()};
    arguments.emplace(DNNL_ARG_BIAS, operand(row, bias->bytes()));
  }
  primitive.execute(cache_->stream, arguments);
  cache_->stream.wait();
}

std::string matmul_library() {
  const dnnl::version_t* version = dnnl::version();
  return concat("oneDNN ", version->major, ".", version->minor, ".", version->patch);
}

}  // namespace ringbolt::cpu
