#include "io/hdf5.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>
#include <vector>

#include "core/base/random.h"
#include "io/boxes.h"
#include "tests/io/files.h"

namespace ringbolt {
namespace {

using hdf5::Dataset;
using hdf5::File;
using hdf5::Type;
using test::error_of;
using test::expect_message;
using test::TemporaryFolder;

const hdf5::Stamp kStamp{"ringbolt-test", 1, "a test"};

std::vector<float> normals(int64_t n, uint64_t seed) {
  const Philox random(seed);
  std::vector<float> x(static_cast<size_t>(n));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(random.normal(i));
  return x;
}

template <class T>
std::vector<T> read_all(const Dataset& dataset) {
  std::vector<T> values(static_cast<size_t>(dataset.elements()));
  dataset.read<T>(0, values);
  return values;
}

TEST(Boxes, CoverEveryRangeOfASmallArrayOnceAndInOrder) {
  for (const Shape& shape : {Shape{7}, Shape{3, 5}, Shape{2, 3, 4}, Shape{2, 1, 3, 2}}) {
    int64_t compared = 0;
    for (int64_t first = 0; first <= shape.elements(); ++first) {
      for (int64_t count = 0; first + count <= shape.elements(); ++count) {
        std::vector<int64_t> flat;
        const std::vector<Box> boxes = boxes_of_range(shape, first, count);
        EXPECT_LE(boxes.size(), static_cast<size_t>(2 * shape.rank() - 1));
        for (const Box& box : boxes) {
          EXPECT_EQ(box.offset, std::ssize(flat));
          std::vector<int64_t> index = box.start;
          for (bool more = true; more;) {
            int64_t at = 0;
            for (int d = 0; d < shape.rank(); ++d)
              at = at * shape[d] + index[static_cast<size_t>(d)];
            flat.push_back(at);
            more = false;
            for (size_t d = index.size(); d-- > 0 && !more;) {
              if (++index[d] < box.start[d] + box.count[d]) {
                more = true;
              } else {
                index[d] = box.start[d];
              }
            }
          }
        }
        std::vector<int64_t> expected(static_cast<size_t>(count));
        std::iota(expected.begin(), expected.end(), first);
        EXPECT_EQ(flat, expected) << shape.str() << " from " << first << ", " << count;
        compared += count;
      }
    }
    EXPECT_GT(compared, 80);
  }
}

TEST(Hdf5, ReadsBackWhatWasWrittenForOddSizesAndEveryType) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.h5";
  const std::vector<float> x = normals(37 * 13, 1);
  std::vector<bf16> h(x.size());
  std::transform(x.begin(), x.end(), h.begin(), to_bf16);
  const std::vector<int32_t> i{-5, 0, 7};
  const std::vector<uint16_t> u{0, 65535, 259};
  const std::vector<int64_t> l{int64_t{1} << 40, -1};
  {
    File file = File::create(path, kStamp);
    file.create_dataset("a/b/f", Type::f32, {37, 13}, 50).write<float>(0, x);
    file.create_dataset("h", Type::bf16, {37, 13}, 8).write<bf16>(0, h);
    file.create_dataset("i", Type::i32, {3}).write<int32_t>(0, i);
    file.create_dataset("u", Type::u16, {3, 1}).write<uint16_t>(0, u);
    file.create_dataset("l", Type::i64, {1, 1, 2}).write<int64_t>(0, l);
    file.write_text("note", "caf\xC3\xA9");
    file.write_text("nothing", "");
    file.set_attribute("n", int64_t{1} << 50);
    file.set_attribute("r", 1e-300);
    file.set_attribute("empty", std::string());
    file.set_attribute("list", std::span<const int64_t>(l));
    file.close();
  }
  const File file = File::open(path, "ringbolt-test");
  EXPECT_EQ(file.dataset("a/b/f").shape(), (Shape{37, 13}));
  EXPECT_EQ(read_all<float>(file.dataset("a/b/f")), x);
  const std::vector<bf16> h2 = read_all<bf16>(file.dataset("h"));
  for (size_t k = 0; k < h.size(); ++k) EXPECT_EQ(h2[k].bits, h[k].bits);
  EXPECT_EQ(read_all<int32_t>(file.dataset("i")), i);
  EXPECT_EQ(read_all<uint16_t>(file.dataset("u")), u);
  EXPECT_EQ(read_all<int64_t>(file.dataset("l")), l);
  EXPECT_EQ(file.text("note"), "caf\xC3\xA9");
  EXPECT_EQ(file.text("nothing"), "");
  EXPECT_EQ(file.text_attribute("empty"), "");
  EXPECT_EQ(file.integer_attribute("n"), int64_t{1} << 50);
  EXPECT_EQ(file.real_attribute("r"), 1e-300);
  EXPECT_EQ(file.integers_attribute("list"), l);
  EXPECT_EQ(file.stamp().build, "a test");
  EXPECT_EQ(file.dataset_names(), (std::vector<std::string>{"a/b/f", "h", "i", "l", "u"}));
  EXPECT_FALSE(file.has("a/c/f"));
}

TEST(Hdf5, ReadsAndWritesAnyFlatRange) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.h5";
  const std::vector<float> x = normals(11 * 7, 2);
  {
    File file = File::create(path, kStamp);
    Dataset d = file.create_dataset("x", Type::f32, {11, 7}, 14);
    const std::span<const float> all(x);
    for (int64_t first = 0, n = 1; first < std::ssize(x); first += n, n = n % 9 + 2) {
      n = std::min(n, std::ssize(x) - first);
      d.write<float>(first, all.subspan(static_cast<size_t>(first), static_cast<size_t>(n)));
    }
    file.close();
  }
  const Dataset d = File::open(path, "ringbolt-test").dataset("x");
  int compared = 0;
  for (int64_t first = 0; first < std::ssize(x); first += 3) {
    for (int64_t n = 0; first + n <= std::ssize(x); n += 5) {
      std::vector<float> part(static_cast<size_t>(n));
      d.read<float>(first, part);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), x.begin() + first));
      ++compared;
    }
  }
  EXPECT_GT(compared, 200);
}

TEST(Hdf5, GrowsByAppending) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.h5";
  std::vector<uint16_t> all;
  {
    File file = File::create(path, kStamp);
    Dataset d = file.create_extendible("t", Type::u16, 100);
    for (const size_t n : {0U, 1U, 99U, 100U, 101U, 257U}) {
      std::vector<uint16_t> part(n);
      std::iota(part.begin(), part.end(), static_cast<uint16_t>(n));
      d.append<uint16_t>(part);
      all.insert(all.end(), part.begin(), part.end());
    }
    file.close();
  }
  EXPECT_EQ(all.size(), 558U);
  EXPECT_EQ(read_all<uint16_t>(File::open(path, "ringbolt-test").dataset("t")), all);
}

// HDF5's own conversion stores 0.999566 as 0.5: rounding carries into the exponent.
TEST(Hdf5, StoresBf16BitsWhereRoundingCarries) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.h5";
  const std::vector<float> x{0.999566F, 0.0078F, 3.4e38F, 1.00390625F, -0.999566F, 0.0F};
  const std::vector<float> rounded{1.0F, 0.0078125F, INFINITY, 1.0F, -1.0F, 0.0F};
  std::vector<bf16> h(x.size());
  std::transform(x.begin(), x.end(), h.begin(), to_bf16);
  {
    File file = File::create(path, kStamp);
    file.create_dataset("h", Type::bf16, {6}).write<bf16>(0, h);
    file.close();
  }
  const std::vector<bf16> back = read_all<bf16>(File::open(path, "ringbolt-test").dataset("h"));
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(back[i].bits, h[i].bits);
    EXPECT_EQ(to_float(back[i]), rounded[i]) << x[i];
  }
}

TEST(Hdf5, RefusesAnotherTypeAndAnotherRange) {
  const TemporaryFolder folder;
  File file = File::create(folder / "a.h5", kStamp);
  Dataset d = file.create_dataset("x", Type::f32, {4});
  std::vector<float> x(5);
  std::vector<int32_t> i(1);
  expect_message(error_of([&] { d.write<float>(0, x); }),
                 {"x of " + (folder / "a.h5"), "0 to 5", "its 4"});
  expect_message(error_of([&] { d.write<float>(-1, std::span<const float>(x).first(1)); }),
                 {"-1 to 0"});
  expect_message(error_of([&] { d.write<int32_t>(0, i); }), {"it holds f32, not i32"});
}

// --- damaged and foreign files -------------------------------------------------------------------

/// A file of several chunks and everything that a file of ours has.
std::string write_sample(const TemporaryFolder& folder) {
  const std::string path = folder / "sample.h5";
  File file = File::create(path, kStamp);
  file.create_dataset("deep/x", Type::f32, {300, 7}, 350).write<float>(0, normals(2100, 3));
  file.write_text("note", "a note");
  file.set_attribute("n", int64_t{5});
  file.close();
  return path;
}

void read_sample(const std::string& path) {
  const File file = File::open(path, "ringbolt-test");
  EXPECT_EQ(file.integer_attribute("n"), 5);
  EXPECT_EQ(file.text("note"), "a note");
  EXPECT_EQ(read_all<float>(file.dataset("deep/x")), normals(2100, 3));
}

TEST(Hdf5, NamesFileAndDatasetOfAFlippedBit) {
  const TemporaryFolder folder;
  const std::string path = write_sample(folder);
  std::string bytes = read_whole_file(path);
  const std::vector<float> x = normals(2100, 3);
  const std::string needle(reinterpret_cast<const char*>(x.data() + 1000), 16);
  const size_t at = bytes.find(needle);
  ASSERT_NE(at, std::string::npos);
  bytes[at + 5] = static_cast<char>(bytes[at + 5] ^ 0x10);
  write_file_atomically(path, bytes);
  expect_message(error_of([&] { read_sample(path); }),
                 {"deep/x of " + path, "checksum", "restore it"});
}

// Data and HDF5's own structures carry checksums: a flipped bit is either refused or in bytes that
// nobody reads.
TEST(Hdf5, NeverReturnsWrongValuesFromAFlippedBit) {
  const TemporaryFolder folder;
  const std::string path = write_sample(folder);
  const std::string good = read_whole_file(path);
  int refused = 0;
  int harmless = 0;
  for (size_t at = 0; at < good.size(); at += 13) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << (at % 8)));
    test::overwrite(path, bad);
    try {
      read_sample(path);
      ++harmless;
    } catch (const IoError& error) {
      ++refused;
      EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
    }
  }
  EXPECT_GT(refused, 600) << harmless << " harmless of " << good.size();
}

TEST(Hdf5, RefusesAFileCutOffAnywhere) {
  const TemporaryFolder folder;
  const std::string path = write_sample(folder);
  const std::string good = read_whole_file(path);
  for (const size_t length : {size_t{1}, size_t{7}, size_t{8}, size_t{47}, size_t{48}, size_t{500},
                              good.size() / 2, good.size() - 1}) {
    test::overwrite(path, good.substr(0, length));
    expect_message(error_of([&] { read_sample(path); }), {path});
  }
}

TEST(Hdf5, SaysWhyAMissingEmptyOrForeignFileIsRefused) {
  const TemporaryFolder folder;
  const auto open = [&](const std::string& path) {
    return error_of([&] { File::open(path, "ringbolt-test"); });
  };
  expect_message(open(folder / "none.h5"), {folder / "none.h5", "No such file"});
  write_file_atomically(folder / "empty.h5", "");
  expect_message(open(folder / "empty.h5"), {folder / "empty.h5", "empty"});
  write_file_atomically(folder / "text.h5", std::string(5000, 'a'));
  expect_message(open(folder / "text.h5"), {folder / "text.h5", "not an HDF5 file"});
  expect_message(open(folder.path()), {folder.path()});
  const std::string sample = write_sample(folder);
  expect_message(error_of([&] { File::open(sample, "ringbolt-tokens"); }),
                 {sample, "ringbolt-test", "ringbolt-tokens"});
  {
    File file = File::create(folder / "new.h5", {"ringbolt-test", 7, "the future"});
    file.close();
  }
  expect_message(open(folder / "new.h5"), {"version 7", "up to 1", "newer"});
  expect_message(error_of([&] { File::create(folder / "no/such/a.h5", kStamp); }),
                 {"no/such/a.h5", "No such file"});
  expect_message(error_of([&] { File::open(sample, "ringbolt-test").dataset("y"); }),
                 {"y of " + sample, "no such"});
  expect_message(error_of([&] { File::open(sample, "ringbolt-test").integer_attribute("m"); }),
                 {"'m'", sample});
}

// --- virtual datasets ----------------------------------------------------------------------------

TEST(Hdf5, ShowsPiecesOfOtherFilesAsOneArrayAndNaNWhereOneIsMissing) {
  const TemporaryFolder folder;
  const std::vector<float> x = normals(9 * 5, 4);
  const std::vector<int64_t> edges{0, 7, 8, 31, 45};
  std::vector<hdf5::VirtualPiece> pieces;
  for (size_t i = 0; i + 1 < edges.size(); ++i) {
    const std::string name = "part" + std::to_string(i) + ".h5";
    const int64_t count = edges[i + 1] - edges[i];
    File file = File::create(folder / name, kStamp);
    file.create_dataset("p", Type::f32, {count}, 4)
        .write<float>(0, std::span<const float>(x).subspan(static_cast<size_t>(edges[i]),
                                                           static_cast<size_t>(count)));
    file.close();
    pieces.push_back({name, "p", edges[i], count});
  }
  {
    File file = File::create(folder / "all.h5", kStamp);
    file.create_virtual("x", Type::f32, {9, 5}, pieces);
    file.close();
  }
  EXPECT_EQ(read_all<float>(File::open(folder / "all.h5", "ringbolt-test").dataset("x")), x);
  std::filesystem::remove(folder / "part2.h5");
  const std::vector<float> holes =
      read_all<float>(File::open(folder / "all.h5", "ringbolt-test").dataset("x"));
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(std::isnan(holes[i]), i >= 8 && i < 31) << i;
}

}  // namespace
}  // namespace ringbolt
