#include "apps/bench_report.h"

#include "core/base/quantity.h"

namespace ringbolt {
namespace {

Json timed(const std::string& name, DType dtype, const Timing& timing) {
  return Json::object()
      .set("name", name)
      .set("dtype", name_of(dtype))
      .set("median_seconds", timing.median_seconds)
      .set("min_seconds", timing.min_seconds)
      .set("max_seconds", timing.max_seconds)
      .set("repetitions", timing.repetitions);
}

std::string milliseconds(double seconds) {
  return fixed(seconds * 1e3, seconds < 0.1 ? 3 : 1) + " ms";
}

}  // namespace

BenchTable::BenchTable()
    : table_({"workload", "type", "median", "min - max", "GFLOP/s", "peak", "share", "resident"}),
      memory_table_({"operation", "type", "median", "GB/s", "copy GB/s", "share"}) {}

Json& BenchTable::add(const BenchResult& r) {
  table_.add_row({r.name, name_of(r.dtype), milliseconds(r.timing.median_seconds),
                  milliseconds(r.timing.min_seconds) + " - " + milliseconds(r.timing.max_seconds),
                  fixed(r.rate() / 1e9, 1), fixed(r.peak / 1e9, 1),
                  fixed(100 * r.peak_share(), 1) + "%", format_bytes(r.resident_bytes)});
  rows_.push_back(timed(r.name, r.dtype, r.timing)
                      .set("resident_peak_bytes", r.resident_bytes)
                      .set("flops", r.flops)
                      .set("flops_per_second", r.rate())
                      .set("peak_flops_per_second", r.peak)
                      .set("peak_share", r.peak_share()));
  return rows_.back();
}

void BenchTable::add(const RowwiseResult& r) {
  memory_table_.add_row({r.name, name_of(r.dtype), milliseconds(r.timing.median_seconds),
                         fixed(r.bytes_per_second() / 1e9, 1),
                         fixed(r.copy_bytes_per_second / 1e9, 1),
                         fixed(100 * r.copy_share(), 1) + "%"});
  rows_.push_back(timed(r.name, r.dtype, r.timing)
                      .set("bytes_per_second", r.bytes_per_second())
                      .set("copy_bytes_per_second", r.copy_bytes_per_second)
                      .set("copy_share", r.copy_share()));
  has_memory_ = true;
}

std::string BenchTable::text() const {
  std::string tables = table_.rows() == 0 ? "" : table_.str();
  if (has_memory_) tables += (tables.empty() ? "" : "\n") + memory_table_.str();
  if (tables.empty()) return notes_;
  return tables + (notes_.empty() ? "" : "\n" + notes_);
}

}  // namespace ringbolt
