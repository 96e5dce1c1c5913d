#include "core/cpu/matmul.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>
#include <unordered_map>

#include <oneapi/dnnl/dnnl.hpp>

#include "core/base/error.h"
#include "core/cpu/packed_product.h"

namespace ringbolt::cpu {
namespace {

using dnnl::memory;

memory::data_type type_of(DType dtype) {
  return dtype == DType::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

memory::desc desc_of(const Operand& x) {
  return {{x.rows, x.columns}, type_of(x.dtype), {x.row_stride, x.column_stride}};
}

struct Key {
  Operand a;
  Operand b;
  Operand c;
  Update update;
  bool has_bias;
  DType bias_dtype;

  friend bool operator<(const Key& x, const Key& y) {
    const auto order = [](const Key& k) {
      return std::tuple_cat(k.a.key(), k.b.key(), k.c.key(),
                            std::tie(k.update, k.has_bias, k.bias_dtype));
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
  const memory::desc a = desc_of(key.a);
  const memory::desc b = desc_of(key.b);
  const memory::desc c = desc_of(key.c);
  const memory::desc bias({1, key.c.columns}, type_of(key.bias_dtype), {key.c.columns, 1});
  const auto descriptor =
      key.has_bias ? dnnl::matmul::desc(a, b, bias, c) : dnnl::matmul::desc(a, b, c);
  return dnnl::matmul({descriptor, attributes, engine});
}

void require_match(const Key& key) {
  if (key.a.columns != key.b.rows || key.a.rows != key.c.rows || key.b.columns != key.c.columns) {
    throw std::logic_error(concat("matmul: (", key.a.rows, ", ", key.a.columns, ") x (", key.b.rows,
                                  ", ", key.b.columns, ") is not (", key.c.rows, ", ",
                                  key.c.columns, ")"));
  }
  if (key.a.dtype != key.b.dtype || (key.c.dtype != key.a.dtype && key.c.dtype != DType::f32)) {
    throw std::logic_error("matmul: operand types do not go together");
  }
}

}  // namespace

struct Matmul::Cache {
  Cache(Isa isa, Allocator& lender) : kernels(product_kernels(isa)), allocator(lender) {}

  ProductKernelsOfIsa kernels;
  Allocator& allocator;
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::mutex mutex;
  std::map<Key, dnnl::matmul> primitives;

  const ProductKernels* kernels_for(DType dtype) const {
    return dtype == DType::bf16 ? kernels.bf16 : kernels.f32;
  }

  const dnnl::matmul& get(const Key& key) {
    const std::lock_guard lock(mutex);
    const auto found = primitives.find(key);
    if (found != primitives.end()) return found->second;
    return primitives.emplace(key, create(key, engine)).first->second;
  }

  void execute(const Key& key, const Product& product) {
    const auto operand = [&](const memory::desc& desc, const std::byte* bytes) {
      return memory(desc, engine, const_cast<std::byte*>(bytes));  // oneDNN's handles are not const
    };
    std::unordered_map<int, memory> arguments{
        {DNNL_ARG_SRC, operand(desc_of(key.a), product.a_bytes)},
        {DNNL_ARG_WEIGHTS, operand(desc_of(key.b), product.b_bytes)},
        {DNNL_ARG_DST, operand(desc_of(key.c), product.c_bytes)}};
    if (key.has_bias) {
      const Operand row{1, key.c.columns, key.c.columns, 1, key.bias_dtype};
      arguments.emplace(DNNL_ARG_BIAS, operand(desc_of(row), product.bias->bytes()));
    }
    get(key).execute(stream, arguments);
    stream.wait();
  }
};

Matmul::Matmul(Isa isa, Allocator& allocator) : cache_(std::make_unique<Cache>(isa, allocator)) {}
Matmul::~Matmul() = default;

void Matmul::operator()(ConstView a, Transpose transpose_a, ConstView b, Transpose transpose_b,
                        View c, Update update, std::optional<ConstView> bias) {
  const Product product{Operand::of(a, transpose_a),
                        Operand::of(b, transpose_b),
                        Operand::of(c, Transpose::no),
                        a.bytes(),
                        b.bytes(),
                        c.bytes(),
                        update,
                        bias};
  const Key key{product.a, product.b,        product.c,
                update,    bias.has_value(), bias ? bias->dtype() : DType::f32};
  require_match(key);
  if (c.empty()) return;
  const ProductKernels* kernels = cache_->kernels_for(a.dtype());
  if (kernels != nullptr && is_large(product))
    return packed_product(*kernels, cache_->allocator, product);
  cache_->execute(key, product);
}

std::string matmul_library() {
  const dnnl::version_t* version = dnnl::version();
  return concat("oneDNN ", version->major, ".", version->minor, ".", version->patch);
}

}  // namespace ringbolt::cpu
