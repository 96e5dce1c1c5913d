#include "core/cpu/packed_product.h"

#include <algorithm>

#include "core/cpu/parallel_for.h"

namespace ringbolt::cpu {
namespace {

constexpr int64_t kLeastRows = 768;  // with 512 oneDNN is 1 to 5 % faster
constexpr int64_t kLeastColumns = 64;
constexpr int64_t kLeastDepth = 64;

constexpr int64_t kBlockRows = 96;        // rows of A at a time
constexpr int64_t kBlockWords = 1536;     // and words of its depth: 590 KB
constexpr int64_t kGroupColumns = 512;    // columns of C that one block of A passes
constexpr int64_t kPanelBytes = 4 << 20;  // panels at a time

int64_t divide_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }
int64_t round_up(int64_t n, int64_t unit) { return divide_up(n, unit) * unit; }
int64_t per_word(DType dtype) { return 4 / size_of(dtype); }
int64_t padded_words(int64_t depth, DType dtype) {
  return round_up(divide_up(depth, per_word(dtype)), kDepthWords);
}

/// Columns of the panels that are packed at a time, of B (depth, columns).
int64_t chunk_columns(int64_t depth, int64_t columns, DType dtype) {
  const int64_t panel = padded_words(depth, dtype) * kPanelColumns * 4;
  const int64_t panels = divide_up(columns, kPanelColumns);
  const int64_t chunks = divide_up(panels, std::max<int64_t>(1, kPanelBytes / panel));
  return divide_up(panels, chunks) * kPanelColumns;
}

/// One product under way.
class Run {
 public:
  Run(const ProductKernels& kernels, Allocator& allocator, const Product& p)
      : kernels_(kernels),
        p_(p),
        element_(size_of(p.a.dtype)),
        words_(divide_up(p.a.columns, per_word(p.a.dtype))),
        panel_words_(padded_words(p.a.columns, p.a.dtype) * kPanelColumns),
        chunk_(chunk_columns(p.a.columns, p.b.columns, p.a.dtype)),
        panels_(allocator.allocate(chunk_ / kPanelColumns * panel_words_ * 4)) {
    if (p.bias) widen_bias(allocator);
    // A sum that is rounded to bf16 is rounded once: its whole depth goes by at a time.
    const int64_t passes = p.c.dtype == DType::bf16 ? 1 : divide_up(words_, kBlockWords);
    pass_words_ = round_up(divide_up(words_, passes), kDepthWords);
    tiles_ = divide_up(p.c.rows, kTileRows);
    blocks_ = std::min(tiles_, round_up(divide_up(p.c.rows, kBlockRows), max_threads()));
  }

  void operator()() {
    for (first_column_ = 0; first_column_ < p_.c.columns; first_column_ += chunk_) {
      columns_ = std::min(chunk_, p_.c.columns - first_column_);
      pack_b();
      groups_ = divide_up(columns_, kGroupColumns);
      group_columns_ = round_up(divide_up(columns_, groups_), kPanelColumns);
      items_ = blocks_ * groups_;
      parallel_for_dynamic(items_, [&](int64_t item) { multiply(item); });
    }
  }

 private:
  /// A part of A: rows of one block, words of one pass over the depth.
  struct Part {
    int64_t row, rows, word, words;
  };

  void widen_bias(Allocator& allocator) {
    bias_ = allocator.allocate(p_.c.columns * 4);
    auto* to = reinterpret_cast<float*>(bias_.get());
    for (int64_t i = 0; i < p_.c.columns; ++i) {
      to[i] = p_.bias->dtype() == DType::bf16 ? to_float(p_.bias->data<bf16>()[i])
                                              : p_.bias->data<float>()[i];
    }
  }

  float* panel(int64_t column) const {
    return reinterpret_cast<float*>(panels_.get()) + column / kPanelColumns * panel_words_;
  }

  void pack_b() {
    const Operand& b = p_.b;
    const std::byte* from = p_.b_bytes + first_column_ * b.column_stride * element_;
    if (b.lies_transposed()) {
      parallel_for(divide_up(columns_, kPanelColumns), [&](int64_t i) {
        const int64_t first = i * kPanelColumns;
        kernels_.pack_columns(from + first * b.column_stride * element_, b.column_stride, b.rows,
                              std::min(kPanelColumns, columns_ - first), panel(first),
                              panel_words_);
      });
    } else {
      const int64_t rows = kDepthWords * per_word(b.dtype);
      parallel_for(divide_up(b.rows, rows), [&](int64_t i) {
        kernels_.pack_rows(from + i * rows * b.row_stride * element_, b.row_stride,
                           b.rows - i * rows, columns_, panel(0) + i * kDepthWords * kPanelColumns,
                           panel_words_);
      });
    }
  }

  int64_t first_row(int64_t block) const {
    return std::min(p_.c.rows, block * tiles_ / blocks_ * kTileRows);
  }

  /// Items that lie beside one another share their block.
  Part part_of(int64_t item, int64_t word) const {
    const int64_t block = item / groups_;
    const int64_t row = first_row(block);
    return {row, first_row(block + 1) - row, word, std::min(pass_words_, words_ - word)};
  }

  const std::byte* at(const Part& part) const {
    return p_.a_bytes +
           (part.row * p_.a.row_stride + part.word * per_word(p_.a.dtype) * p_.a.column_stride) *
               element_;
  }

  int64_t depth_of(const Part& part) const {
    const int64_t first = part.word * per_word(p_.a.dtype);
    return std::min(part.words * per_word(p_.a.dtype), p_.a.columns - first);
  }

  void multiply(int64_t item) const {
    const int64_t column = item % groups_ * group_columns_;
    ProductBlock block{};
    block.columns = std::min(group_columns_, columns_ - column);
    block.panel_words = panel_words_;
    block.c_stride = p_.c.row_stride * size_of(p_.c.dtype);
    for (int64_t word = 0; word < words_; word += pass_words_) {
      const Part part = part_of(item, word);
      block.rows = part.rows;
      block.words = part.words;
      block.b = panel(column) + word * kPanelColumns;
      block.c = reinterpret_cast<char*>(p_.c_bytes) + part.row * block.c_stride +
                (first_column_ + column) * size_of(p_.c.dtype);
      block.bias = bias_ && word == 0
                       ? reinterpret_cast<const float*>(bias_.get()) + first_column_ + column
                       : nullptr;
      block.accumulate = p_.update == Update::accumulate || word > 0;
      place_a(part, block);
      (p_.c.dtype == DType::bf16 ? kernels_.multiply_to_bf16 : kernels_.multiply_to_f32)(block);
    }
  }

  void place_a(const Part& part, ProductBlock& block) const {
    block.a = reinterpret_cast<const char*>(at(part));
    block.a_row_stride = p_.a.row_stride * element_;
    block.a_tile_stride = kTileRows * block.a_row_stride;
    block.a_word_stride = 4;
    block.tiles = nullptr;
    if (!p_.a.lies_transposed()) return;
    const int64_t tile_words = tile_words_for(part.words);
    block.tiles =
        static_cast<float*>(thread_scratch(divide_up(part.rows, kTileRows) * tile_words * 4));
    block.transposed = {at(part), p_.a.column_stride, depth_of(part), p_.a.rows - part.row};
    block.a = reinterpret_cast<const char*>(block.tiles);
    block.a_tile_stride = tile_words * 4;
    block.a_row_stride = 4;
    block.a_word_stride = kTileRows * 4;
  }

  const ProductKernels& kernels_;
  const Product& p_;
  int64_t element_;      // bytes
  int64_t words_;        // of the depth
  int64_t panel_words_;  // from a panel to the next
  int64_t chunk_;        // columns whose panels are packed at a time
  std::shared_ptr<std::byte> panels_;
  std::shared_ptr<std::byte> bias_;  // in f32
  int64_t pass_words_ = 0;
  int64_t tiles_ = 0;
  int64_t blocks_ = 0;
  int64_t first_column_ = 0;  // of the panels that are packed now
  int64_t columns_ = 0;
  int64_t groups_ = 0;  // of columns
  int64_t group_columns_ = 0;
  int64_t items_ = 0;
};

bool is_large(int64_t rows, int64_t depth, int64_t columns) {
  return rows >= kLeastRows && columns >= kLeastColumns && depth >= kLeastDepth;
}

}  // namespace

Operand Operand::of(ConstView x, Transpose transpose) {
  const int64_t columns = x.row_elements();
  const int64_t stride = x.rows() <= 1 ? columns : x.row_stride();
  if (transpose == Transpose::yes) return {columns, x.rows(), 1, stride, x.dtype()};
  return {x.rows(), columns, stride, 1, x.dtype()};
}

bool is_large(const Product& product) {
  // Rows of A that end within a word cannot be read as words.
  const bool whole_words =
      product.a.lies_transposed() || product.a.columns % per_word(product.a.dtype) == 0;
  return whole_words && is_large(product.c.rows, product.a.columns, product.c.columns);
}

void packed_product(const ProductKernels& kernels, Allocator& allocator, const Product& product) {
  Run{kernels, allocator, product}();
}

int64_t packed_product_bytes(int64_t rows, int64_t depth, int64_t columns, DType dtype) {
  if (!is_large(rows, depth, columns)) return 0;
  return padded_words(depth, dtype) * chunk_columns(depth, columns, dtype) * 4;
}

}  // namespace ringbolt::cpu
