// What ringbolt bench found out, as tables and as JSON.
#pragma once

#include <string>

#include "core/bench/rowwise.h"
#include "core/bench/workloads.h"
#include "io/json.h"
#include "io/table.h"

namespace ringbolt {

/// Of workloads on ranks; rank 0 has it.
struct RankReport {
  std::string device;  ///< of a rank
  std::string text;
  Json::Array rows;
};

/// Of workloads of one rank, a row each.
class BenchTable {
 public:
  BenchTable();

  /// The row, for what only some workloads have.
  Json& add(const BenchResult& r);
  void add(const RowwiseResult& r);
  void add_row(Json row) { rows_.push_back(std::move(row)); }
  void note(const std::string& line) { notes_ += line + "\n"; }
  std::string text() const;
  Json json() const { return Json(rows_); }

 private:
  Table table_;
  Table memory_table_;
  bool has_memory_ = false;
  Json::Array rows_;
  std::string notes_;
};

}  // namespace ringbolt
