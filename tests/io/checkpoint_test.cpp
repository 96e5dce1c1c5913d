#include "io/checkpoint.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <thread>

#include "core/base/random.h"
#include "tests/io/files.h"
#include "tests/io/ranks.h"

namespace ringbolt {
namespace {

using test::error_of;
using test::expect_message;
using test::run_ranks;
using test::TemporaryFolder;

std::vector<float> normals(int64_t n, const std::string& name) {
  const Philox random(7, stream_of(name));
  std::vector<float> x(static_cast<size_t>(n));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(random.normal(i));
  return x;
}

struct Named {
  std::string name;
  Shape shape;
  DType dtype;
};

/// Odd shapes, so that the pieces of three ranks end inside rows.
const std::vector<Named> kTensors{{"weights/model.embed_tokens.weight", {17, 5}, DType::bf16},
                                  {"weights/model.norm.weight", {5}, DType::f32},
                                  {"moments/first/model.embed_tokens.weight", {17, 5}, DType::f32},
                                  {"moments/second/odd", {3, 2, 7}, DType::f32}};

/// Unequal shares: rank r of n owns a share proportional to r + 1.
std::pair<int64_t, int64_t> share(int64_t elements, int rank, int ranks) {
  const int64_t total = int64_t{ranks} * (ranks + 1) / 2;
  const auto edge = [&](int64_t r) { return elements * (r * (r + 1) / 2) / total; };
  return {edge(rank), edge(rank + 1)};
}

CheckpointInfo sample_info() {
  CheckpointInfo info;
  info.model = model_shape("tiny");
  info.model.rope_theta = 12345.5;
  info.model.rotary_pairing = RotaryPairing::interleaved;
  info.step = 123;
  info.training_json = R"({"seed": 9, "data_position": 1099511627776})";
  return info;
}

void write_tensors(CheckpointWriter& writer, int rank, int ranks, float shift = 0) {
  for (const Named& t : kTensors) {
    std::vector<float> x = normals(t.shape.elements(), t.name);
    for (float& v : x) v += shift;
    const auto [begin, end] = share(t.shape.elements(), rank, ranks);
    if (t.dtype == DType::f32) {
      writer.write(t.name, t.shape, begin, ConstView::of<float>(x.data() + begin, {end - begin}));
    } else {
      std::vector<bf16> h(x.size());
      std::transform(x.begin(), x.end(), h.begin(), to_bf16);
      writer.write(t.name, t.shape, begin, ConstView::of<bf16>(h.data() + begin, {end - begin}));
    }
  }
}

void write_checkpoint(const std::string& folder, int n_ranks, float shift = 0) {
  run_ranks(n_ranks, [&](Communicator& ranks) {
    CheckpointWriter writer(folder, ranks, "a test");
    write_tensors(writer, ranks.rank(), ranks.size(), shift);
    writer.finish(sample_info());
  });
}

std::vector<float> expected_values(const Named& t, float shift = 0) {
  std::vector<float> x = normals(t.shape.elements(), t.name);
  for (float& v : x) {
    v += shift;
    if (t.dtype == DType::bf16) v = to_float(to_bf16(v));
  }
  return x;
}

TEST(Checkpoint, ComesBackWholeFromAnyNumberOfShardsInAnyRange) {
  for (int n_ranks : {1, 2, 3, 8}) {
    const TemporaryFolder folder;
    const std::string path = checkpoint_folder(folder.path(), 123);
    write_checkpoint(path, n_ranks);
    const CheckpointReader reader = CheckpointReader::open(path);
    EXPECT_EQ(reader.shards(), n_ranks);
    EXPECT_EQ(reader.info().step, 123);
    EXPECT_EQ(reader.info().model, sample_info().model);
    EXPECT_EQ(reader.info().training_json, sample_info().training_json);
    EXPECT_EQ(reader.info().build, "a test");
    EXPECT_EQ(reader.names().size(), kTensors.size());
    int64_t compared = 0;
    for (const Named& t : kTensors) {
      ASSERT_TRUE(reader.has(t.name));
      EXPECT_EQ(reader.shape(t.name), t.shape);
      EXPECT_EQ(reader.dtype(t.name), t.dtype);
      const std::vector<float> x = expected_values(t);
      for (int64_t first = 0; first < t.shape.elements(); first += 4) {
        for (int64_t n : {int64_t{0}, int64_t{1}, int64_t{6}, t.shape.elements() - first}) {
          n = std::min(n, t.shape.elements() - first);
          std::vector<float> part(static_cast<size_t>(n));
          reader.read(t.name, first, part);
          EXPECT_TRUE(std::equal(part.begin(), part.end(), x.begin() + first)) << t.name << " " << first << " " << n;
          compared += n;
        }
      }
    }
    EXPECT_GT(compared, 2000);
  }
}

TEST(Checkpoint, ShowsEachTensorAsOneArrayOverItsShards) {
  const TemporaryFolder folder;
  const std::string path = folder / "checkpoint-000001";
  write_checkpoint(path, 3);
  const hdf5::File index = hdf5::File::open(path + "/index.h5", "ringbolt-checkpoint");
  for (const Named& t : kTensors) {
    const hdf5::Dataset dataset = index.dataset(t.name);
    EXPECT_EQ(dataset.shape(), t.shape);
    const std::vector<float> x = expected_values(t);
    if (t.dtype == DType::f32) {
      std::vector<float> shown(x.size());
      dataset.read<float>(0, shown);
      EXPECT_EQ(shown, x) << t.name;
    } else {
      std::vector<bf16> shown(x.size());
      dataset.read<bf16>(0, shown);
      for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(to_float(shown[i]), x[i]) << t.name << " " << i;
    }
  }
}

}  // namespace
}  // namespace ringbolt
