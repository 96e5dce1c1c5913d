#include "io/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <functional>
#include <numeric>
#include <thread>

#include "core/base/random.h"
#include "parallel/threads.h"
#include "tests/io/files.h"

namespace ringbolt {
namespace {

using test::error_of;
using test::expect_message;
using test::TemporaryFolder;

/// Runs `body` on n ranks; returns what each threw ("" for nothing).
std::vector<std::string> run_ranks(int n, const std::function<void(Communicator&)>& body) {
  std::vector<std::string> errors(static_cast<size_t>(n));
  run_thread_ranks(n, 60, [&](Communicator& ranks) {
    try {
      body(ranks);
    } catch (const std::exception& error) {
      errors[static_cast<size_t>(ranks.rank())] = error.what();
    }
  });
  return errors;
}

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

/// On one rank and without threads, for a child process.
void write_checkpoint_alone(const std::string& folder) {
  const auto ranks = make_single_communicator();
  CheckpointWriter writer(folder, *ranks, "a test");
  write_tensors(writer, 0, 1);
  writer.finish(sample_info());
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
          EXPECT_TRUE(std::equal(part.begin(), part.end(), x.begin() + first))
              << t.name << " " << first << " " << n;
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
      for (size_t i = 0; i < x.size(); ++i)
        EXPECT_EQ(to_float(shown[i]), x[i]) << t.name << " " << i;
    }
  }
}

// --- what can go wrong while it is written -------------------------------------------------------

TEST(Checkpoint, ReplacesOneOfTheSameName) {
  const TemporaryFolder folder;
  const std::string path = folder / "checkpoint-000001";
  write_checkpoint(path, 2, 0);
  write_checkpoint(path, 3, 1);
  const CheckpointReader reader = CheckpointReader::open(path + "/index.h5");
  EXPECT_EQ(reader.shards(), 3);
  std::vector<float> x(5);
  reader.read(kTensors[1].name, 0, x);
  EXPECT_EQ(x, expected_values(kTensors[1], 1));
  EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
  EXPECT_FALSE(std::filesystem::exists(path + ".old"));
}

TEST(Checkpoint, LeavesNothingWithoutFinish) {
  const TemporaryFolder folder;
  const std::string path = folder / "checkpoint-000001";
  {
    const auto ranks = make_single_communicator();
    CheckpointWriter writer(path, *ranks, "a test");
    write_tensors(writer, 0, 1);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Checkpoint, RefusesGapsAndOverlapsOnEveryRank) {
  const TemporaryFolder folder;
  const std::vector<float> x(20);
  const auto write = [&](int64_t second_begins, int64_t second_ends) {
    return run_ranks(2, [&](Communicator& ranks) {
      CheckpointWriter writer(folder / "c", ranks, "a test");
      const int64_t begin = ranks.rank() == 0 ? 0 : second_begins;
      const int64_t end = ranks.rank() == 0 ? 8 : second_ends;
      writer.write("weights/w", {4, 5}, begin, ConstView::of<float>(x.data(), {end - begin}));
      writer.finish(sample_info());
    });
  };
  for (const std::string& error : write(9, 20))
    expect_message(error, {"weights/w (4, 5)", "8 to 9", "missing"});
  for (const std::string& error : write(7, 20)) expect_message(error, {"7 to 8", "twice"});
  for (const std::string& error : write(8, 19)) expect_message(error, {"19 to 20", "missing"});
  for (const std::string& error : write(8, 21)) expect_message(error, {"rank 1", "weights/w"});
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Checkpoint, LeavesThePreviousOneWholeOnAFullDisk) {
  const test::SmallDisk disk(600);
  if (!disk.mounted()) GTEST_SKIP() << "NOT TESTED: this user may not mount a small disk";
  const auto write = [&](const std::string& name, int n_ranks, int64_t elements) {
    const std::vector<float> x = normals(elements, "big");
    return run_ranks(n_ranks, [&](Communicator& ranks) {
      CheckpointWriter writer(disk / name, ranks, "a test");
      // Rank 0 owns little, so that it is another rank that fails.
      const int64_t begin = ranks.rank() == 0 ? 0 : 10;
      const int64_t end = ranks.rank() == 0 && ranks.size() > 1 ? 10 : elements;
      if (ranks.rank() < 2) {
        writer.write("weights/w", {elements}, begin,
                     ConstView::of<float>(x.data() + begin, {end - begin}));
      }
      writer.finish(sample_info());
    });
  };
  for (const int n_ranks : {1, 3}) {
    for (const std::string& error : write("checkpoint-000001", n_ranks, 20'000))
      ASSERT_EQ(error, "");
    // Full in the middle of the data, and at various places behind it: when chunks, indices and
    // headers are flushed.
    int failed = 0;
    for (const int64_t elements :
         {1'000'000, 140'000, 120'000, 118'000, 116'000, 114'000, 112'000, 110'000}) {
      const std::vector<std::string> errors = write("checkpoint-000001", n_ranks, elements);
      if (errors[0].empty()) break;
      ++failed;
      for (const std::string& error : errors)
        expect_message(error, {"No space left on device", "Free some space"});
      EXPECT_FALSE(std::filesystem::exists(disk / "checkpoint-000001.partial"));
      const CheckpointReader reader = CheckpointReader::open(disk / "checkpoint-000001");
      std::vector<float> x(20'000);
      reader.read("weights/w", 0, x);
      EXPECT_EQ(x, normals(20'000, "big"));
    }
    EXPECT_GE(failed, 2);
    EXPECT_EQ(find_checkpoints(disk.path()).size(), 1U);
  }
}

TEST(Checkpoint, LeavesThePreviousOneWholeWhenKilledAtAnyMoment) {
  const TemporaryFolder folder;
  write_checkpoint(checkpoint_folder(folder.path(), 1), 1, 0);
  const Philox random(11);
  int killed_before_the_end = 0;
  constexpr int kTrials = 40;
  for (int trial = 0; trial < kTrials; ++trial) {
    const pid_t child = ::fork();
    if (child == 0) {
      for (;;) write_checkpoint_alone(checkpoint_folder(folder.path(), 2));
    }
    ::usleep(static_cast<useconds_t>(1000 + 30000 * random.uniform(static_cast<uint64_t>(trial))));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    for (const FoundCheckpoint& found : find_checkpoints(folder.path())) {
      const CheckpointReader reader = CheckpointReader::open(found.folder);
      for (const Named& t : kTensors) {
        std::vector<float> x(static_cast<size_t>(t.shape.elements()));
        reader.read(t.name, 0, x);
        EXPECT_EQ(x, expected_values(t)) << found.folder;
      }
    }
    EXPECT_FALSE(find_checkpoints(folder.path()).empty());
    killed_before_the_end +=
        std::filesystem::exists(checkpoint_folder(folder.path(), 2) + ".partial");
  }
  EXPECT_GT(killed_before_the_end, 5) << "too few kills hit a checkpoint under way";
}

// --- what can be wrong with it when it is read ---------------------------------------------------

TEST(Checkpoint, NamesTheShardThatIsMissingDamagedOrForeign) {
  const TemporaryFolder folder;
  const std::string path = folder / "checkpoint-000001";
  const std::string shard = path + "/shard-00001.h5";
  const auto open = [&] { return error_of([&] { CheckpointReader::open(path); }); };
  write_checkpoint(path, 3);
  const std::string good = read_whole_file(shard);

  // A flipped bit in the data of one piece.
  const auto [begin, end] = share(17 * 5, 1, 3);
  const std::vector<float> x = expected_values(kTensors[2]);
  const size_t at = good.find(std::string(reinterpret_cast<const char*>(x.data() + begin), 16));
  ASSERT_NE(at, std::string::npos);
  test::flip_bit(shard, at);
  {
    const CheckpointReader reader = CheckpointReader::open(path);
    std::vector<float> part(1);
    reader.read(kTensors[2].name, begin - 1, part);  // the shard before it is whole
    expect_message(error_of([&] { reader.read(kTensors[2].name, begin, part); }),
                   {shard, kTensors[2].name, "checksum"});
  }

  test::overwrite(shard, good.substr(0, good.size() - 100));
  expect_message(open(), {shard, "truncated"});
  test::overwrite(shard, "");
  expect_message(open(), {shard, "empty"});
  std::filesystem::remove(shard);
  expect_message(open(), {shard, "No such file"});
  write_checkpoint(folder / "other", 3);
  std::filesystem::copy_file(folder / "other/shard-00001.h5", shard);
  expect_message(open(), {shard, "another checkpoint"});
  std::filesystem::remove(shard);
  std::filesystem::copy_file(path + "/index.h5", shard);
  expect_message(open(), {shard, "ringbolt-checkpoint-shard"});
  std::filesystem::remove(path + "/index.h5");
  expect_message(open(), {path + "/index.h5", "No such file"});
}

TEST(Checkpoint, SaysWhichTensorOrRangeIsNotThere) {
  const TemporaryFolder folder;
  write_checkpoint(folder / "c", 1);
  const CheckpointReader reader = CheckpointReader::open(folder / "c");
  std::vector<float> x(3);
  expect_message(error_of([&] { reader.read("weights/nothing", 0, x); }),
                 {folder / "c", "weights/nothing"});
  expect_message(error_of([&] { reader.read(kTensors[1].name, 3, x); }),
                 {kTensors[1].name, "3 to 6", "(5)"});
}

TEST(Checkpoint, FindsFinishedCheckpointsByStep) {
  const TemporaryFolder folder;
  EXPECT_TRUE(find_checkpoints(folder / "none").empty());
  for (const int64_t step : {int64_t{9}, int64_t{100}, int64_t{1'234'567}}) {
    write_checkpoint(checkpoint_folder(folder.path(), step), 1);
  }
  std::filesystem::create_directory(folder / "checkpoint-000500");          // without an index
  std::filesystem::create_directory(folder / "checkpoint-000700.partial");  // killed
  const std::vector<FoundCheckpoint> found = find_checkpoints(folder.path());
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0].step, 9);
  EXPECT_EQ(found[0].folder, folder / "checkpoint-000009");
  EXPECT_EQ(found[2].step, 1'234'567);
}

}  // namespace
}  // namespace ringbolt
