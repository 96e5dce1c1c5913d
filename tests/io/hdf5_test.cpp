#include "io/hdf5.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>
#include <vector>

#include "io/boxes.h"
#include "core/base/random.h"
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
            for (int d = 0; d < shape.rank(); ++d) at = at * shape[d] + index[static_cast<size_t>(d)];
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
}}
