// What is live while a step is walked through, and the moment when most was.
#pragma once

#include <string>
#include <utility>

#include "parallel/memory_account.h"

namespace ringbolt {

class Ledger {
 public:
  /// Takes memory; gives it back at the end of the scope or by release().
  class Hold {
   public:
    Hold(Ledger& ledger, MemoryKind kind, int64_t bytes)
        : ledger_(&ledger), kind_(kind), bytes_(bytes) {
      ledger.add(kind, bytes);
    }
    Hold(Hold&& other) noexcept
        : ledger_(other.ledger_), kind_(other.kind_), bytes_(std::exchange(other.bytes_, 0)) {}
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    Hold& operator=(Hold&&) = delete;
    ~Hold() { release(); }
    void release() {
      ledger_->add(kind_, -bytes_);
      bytes_ = 0;
    }

   private:
    Ledger* ledger_;
    MemoryKind kind_;
    int64_t bytes_;
  };

  Hold hold(MemoryKind kind, int64_t bytes) { return {*this, kind, bytes}; }
  void at(std::string moment) { moment_ = std::move(moment); }
  const MemoryAccount& peak() const { return peak_; }

 private:
  void add(MemoryKind kind, int64_t bytes) {
    live_.bytes[static_cast<size_t>(kind)] += bytes;
    if (live_.total() <= peak_.total()) return;
    peak_ = live_;
    peak_.moment = moment_;
  }

  MemoryAccount live_;
  MemoryAccount peak_;
  std::string moment_;
};

}  // namespace ringbolt
