#include "core/cpu/packed_product.h"

#include <algorithm>
#include <vector>

#include "core/cpu/parallel_for.h"

namespace ringbolt::cpu {
namespace {

constexpr int64_t kLeastRows = 768;  // with 512 oneDNN is 1 to 5 % faster
constexpr int64_t kLeastColumns = 64;
constexpr int64_t kLeastDepth = 64;

constexpr int64_t kBlockTiles = kMostTiles;  // of A at a time
constexpr int64_t kBlockWords = 1024;        // and words of its depth: 393 KB
constexpr int64_t kGroupColumns = 512;       // columns of C that one block of A passes
constexpr int64_t kPanelBytes = 4 << 20;     // panels at a time, half as many more at most
constexpr int64_t kSmallA = 4 << 20;         // bytes that all threads find in the third level
constexpr int64_t kWide = 64;                // panels a thread
constexpr int64_t kPrivatePanels = 2;        // one to multiply, one to pack
constexpr int64_t kLeastPanels = 2;  // a thread, that packing them beside the first block pays

int64_t divide_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }
int64_t round_up(int64_t n, int64_t unit) { return divide_up(n, unit) * unit; }
int64_t panels_of(int64_t columns) { return divide_up(columns, kPanelColumns); }
int64_t per_word(DType dtype) { return 4 / size_of(dtype); }
int64_t padded_words(int64_t depth, DType dtype) {
  return round_up(divide_up(depth, per_word(dtype)), kDepthWords);
}

/// Columns of the panels that are packed at a time, of B (depth, columns).
int64_t chunk_columns(int64_t depth, int64_t columns, DType dtype) {
  const int64_t panel = padded_words(depth, dtype) * kPanelColumns * 4;
  const int64_t panels = panels_of(columns);
  const int64_t chunks =
      std::clamp<int64_t>((panels * panel + kPanelBytes / 2) / kPanelBytes, 1, panels);
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
  }

  void operator()() {
    if (panels_are_private()) return multiply_all_rows();
    for (first_column_ = 0; first_column_ < p_.c.columns; first_column_ += chunk_) {
      columns_ = std::min(chunk_, p_.c.columns - first_column_);
      const int64_t groups = divide_up(columns_, kGroupColumns);
      cut_rows(groups);
      const bool beside = panels_of(columns_) >= kLeastPanels * max_threads();
      if (beside) {
        pack_beside_first_block();
      } else {
        pack_b();
      }
      multiply_blocks(beside ? 1 : 0, groups);
    }
  }

 private:
  /// A part of A: rows of one block, words of one pass over the depth.
  struct Part {
    int64_t row, rows, word, words;
  };

  /// Some columns of the chunk, and their panels.
  struct Columns {
    int64_t first;
    int64_t count;
    float* panels;
    int64_t room;  // for so many; as in ProductBlock
    bool pack;     // them first; else they are packed
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

  SourceOfB source(int64_t column, int64_t word) const {
    const Operand& b = p_.b;
    const int64_t row = word * per_word(b.dtype);
    const int64_t first = first_column_ + column;
    return {p_.b_bytes + (row * b.row_stride + first * b.column_stride) * element_,
            b.lies_transposed() ? b.column_stride : b.row_stride, b.lies_transposed(), b.rows - row,
            b.columns - first};
  }

  void pack_b() const {
    const int64_t panels = panels_of(columns_);
    const int64_t pieces = panel_words_ / (kDepthWords * kPanelColumns);
    const auto pack = [&](int64_t i, int64_t piece) {
      kernels_.pack(source(i * kPanelColumns, 0), piece, panel(i * kPanelColumns));
    };
    // Along what is stored.
    if (p_.b.lies_transposed()) {
      parallel_for(panels, [&](int64_t i) {
        for (int64_t piece = 0; piece < pieces; ++piece) pack(i, piece);
      });
    } else {
      parallel_for(pieces, [&](int64_t piece) {
        for (int64_t i = 0; i < panels; ++i) pack(i, piece);
      });
    }
  }

  /// Where B is wide and A small, all of A passes each panel, which only the thread that packed it
  /// reads, from its second cache level.
  bool panels_are_private() const {
    const int64_t threads = max_threads();
    return !p_.a.lies_transposed() && words_ <= kBlockWords && p_.a.rows * words_ * 4 <= kSmallA &&
           panels_of(p_.c.columns) >= kWide * threads &&
           panels_of(chunk_) >= kPrivatePanels * threads;
  }

  void multiply_all_rows() {
    columns_ = p_.c.columns;
    tiles_ = {0, divide_up(p_.c.rows, kTileRows)};
    constexpr int64_t kRun = 4 * kPanelColumns;
    parallel_for_dynamic(divide_up(columns_, kRun), [&](int64_t item) {
      const int64_t own = thread_index() * kPrivatePanels * kPanelColumns;
      const int64_t first = item * kRun;
      multiply(0, {first, std::min(kRun, columns_ - first), panel(own), kPrivatePanels, true});
    });
  }

  /// Each thread packs panels of its own, each while it multiplies the one before.
  void pack_beside_first_block() const {
    const int64_t panels = panels_of(columns_);
    const int64_t threads = max_threads();
    parallel_for(threads, [&](int64_t i) {
      const int64_t first = i * panels / threads * kPanelColumns;
      const int64_t end = std::min(columns_, (i + 1) * panels / threads * kPanelColumns);
      multiply(0, {first, end - first, panel(first), 0, true});
    });
  }

  void multiply_blocks(int64_t first_block, int64_t groups) const {
    const int64_t blocks = static_cast<int64_t>(tiles_.size()) - 1;
    const int64_t group = round_up(divide_up(columns_, groups), kPanelColumns);
    // Items that lie beside one another share their block.
    parallel_for_dynamic((blocks - first_block) * groups, [&](int64_t item) {
      const int64_t first = item % groups * group;
      multiply(first_block + item / groups,
               {first, std::min(group, columns_ - first), panel(first), 0, false});
    });
  }

  /// Into blocks, smaller ones at the end, so that threads end together. (Copying a block of A
  /// takes the longer the fewer columns each copy serves.)
  void cut_rows(int64_t groups) {
    const int64_t least = kBlockTiles / (p_.a.lies_transposed() ? 2 : 4);
    const int64_t tiles = divide_up(p_.c.rows, kTileRows);
    tiles_.assign(1, 0);
    while (tiles_.back() < tiles) {
      const int64_t left = tiles - tiles_.back();
      const int64_t fair = left * groups / (2 * max_threads());
      tiles_.push_back(tiles_.back() + std::min(left, std::clamp(fair, least, kBlockTiles)));
    }
  }

  int64_t first_row(int64_t block) const {
    return std::min(p_.c.rows, tiles_[static_cast<size_t>(block)] * kTileRows);
  }

  Part part_of(int64_t block, int64_t word) const {
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

  /// A block of A times some columns.
  void multiply(int64_t block_of_a, const Columns& columns) const {
    ProductBlock block{};
    block.columns = columns.count;
    block.panel_words = panel_words_;
    block.panels = columns.room;
    block.c_stride = p_.c.row_stride * size_of(p_.c.dtype);
    for (int64_t word = 0; word < words_; word += pass_words_) {
      const Part part = part_of(block_of_a, word);
      block.rows = part.rows;
      block.words = part.words;
      block.b = columns.panels + word * kPanelColumns;
      if (columns.pack) block.source = source(columns.first, word);
      block.c = reinterpret_cast<char*>(p_.c_bytes) + part.row * block.c_stride +
                (first_column_ + columns.first) * size_of(p_.c.dtype);
      block.bias = bias_ && word == 0
                       ? reinterpret_cast<const float*>(bias_.get()) + first_column_ + columns.first
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
    block.a_strip_stride = kStripRows * block.a_row_stride;
    block.a_word_stride = 4;
    block.strips = nullptr;
    if (!p_.a.lies_transposed()) return;
    const int64_t strip_words = strip_words_for(part.words);
    block.strips =
        static_cast<float*>(thread_scratch(divide_up(part.rows, kStripRows) * strip_words * 4));
    block.transposed = {at(part), p_.a.column_stride, depth_of(part), p_.a.rows - part.row};
    block.a = reinterpret_cast<const char*>(block.strips);
    block.a_strip_stride = strip_words * 4;
    block.a_tile_stride = kTileRows * 4;
    block.a_row_stride = 4;
    block.a_word_stride = kStripRows * 4;
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
  std::vector<int64_t> tiles_;  // the first of each block, and their number
  int64_t first_column_ = 0;    // of the panels that are packed now
  int64_t columns_ = 0;
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
