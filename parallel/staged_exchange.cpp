#include "parallel/staged_exchange.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "core/base/error.h"

namespace ringbolt {
namespace {

/// Of one direction at a time.
constexpr size_t kBuffers = 2;
/// Free buffers are waited for rather than added to beyond these.
constexpr int64_t kMostBytes = int64_t{32} * static_cast<int64_t>(StagingArea::kPieceBytes);

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

StagingArea::Buffer StagingArea::take(Transfers& device) {
  const auto done = std::find_if(free_.begin(), free_.end(),
                                 [&](const Buffer& buffer) { return device.is_done(buffer.free); });
  if (done == free_.end() && (free_.empty() || allocated_ < kMostBytes)) {
    Buffer fresh{device.host_memory(kPieceBytes), Mark()};
    allocated_ += static_cast<int64_t>(kPieceBytes);
    return fresh;
  }
  const auto chosen = done == free_.end() ? free_.begin() : done;
  Buffer buffer = std::move(*chosen);
  free_.erase(chosen);
  device.wait(buffer.free);
  return buffer;
}

void StagingArea::drive() {
  for (StagedExchange* exchange : under_way_) exchange->move_on();
}

StagedExchange::StagedExchange(Transport& transport, StagingArea& area,
                               const Transport::Exchange& exchange)
    : transport_(transport), area_(area), exchange_(exchange) {
  exchange_.device->transfer_after(exchange_.device->computed());
  sending_.bytes = exchange.send.size();
  sending_.all_begun = exchange.to < 0;
  receiving_.bytes = exchange.receive.size();
  receiving_.all_begun = exchange.from < 0;
  area_.under_way_.push_back(this);
  try {
    area_.drive();
  } catch (...) {
    std::erase(area_.under_way_, this);
    throw;
  }
}

StagedExchange::~StagedExchange() {
  std::erase(area_.under_way_, this);
  if (completed_) return;
  // Only after a failure: messages first, then the memory they go to or come from.
  for (Direction* direction : {&sending_, &receiving_}) {
    for (Piece& piece : direction->pieces) {
      try {
        exchange_.device->wait(piece.buffer.free);
      } catch (const std::exception&) {
        static_cast<void>(0);  // an error is under way already
      }
    }
    direction->pieces.clear();
  }
}

bool StagedExchange::must_queue(bool sends) const {
  for (const StagedExchange* other : area_.under_way_) {
    if (other == this) return false;
    const Transport::Exchange& theirs = other->exchange_;
    const bool same = theirs.channel == exchange_.channel && theirs.tag == exchange_.tag &&
                      (sends ? theirs.to == exchange_.to : theirs.from == exchange_.from);
    const Direction& direction = sends ? other->sending_ : other->receiving_;
    if (!same) continue;
    // A send is posted when its copy is done: until then nothing may overtake it.
    const bool unposted = sends && std::any_of(direction.pieces.begin(), direction.pieces.end(),
                                               [](const Piece& piece) {
                                                 return piece.state == Piece::State::copying_out;
                                               });
    if (!direction.all_begun || unposted) return true;
  }
  return false;
}

Transport::Exchange StagedExchange::message_of(const Piece& piece, bool sends) const {
  Transport::Exchange message;
  message.channel = exchange_.channel;
  message.tag = exchange_.tag;
  if (sends) {
    message.to = exchange_.to;
    message.send = {piece.buffer.memory.get(), piece.bytes};
  } else {
    message.from = exchange_.from;
    message.receive = {piece.buffer.memory.get(), piece.bytes};
  }
  return message;
}

StagedExchange::Piece StagedExchange::begin_piece(Direction& direction, bool sends) {
  const size_t bytes = std::min(StagingArea::kPieceBytes, direction.bytes - direction.begun);
  Piece piece{.state = sends ? Piece::State::copying_out : Piece::State::travelling,
              .first = direction.begun,
              .bytes = bytes,
              .buffer = area_.take(*exchange_.device),
              .message = Request()};
  if (sends) {
    exchange_.device->copy(exchange_.send.data() + piece.first, piece.buffer.memory.get(), bytes,
                           Transfers::Way::to_host);
    piece.buffer.free = exchange_.device->transferred();
  } else {
    piece.message = transport_.post(message_of(piece, sends));
  }
  direction.begun += bytes;
  direction.all_begun = direction.begun == direction.bytes;  // no bytes are a piece, too
  return piece;
}

void StagedExchange::begin_pieces(Direction& direction, bool sends) {
  while (!direction.all_begun && direction.pieces.size() < kBuffers && !must_queue(sends)) {
    direction.pieces.push_back(begin_piece(direction, sends));
    ++moves_;
  }
}

void StagedExchange::move_sends() {
  begin_pieces(sending_, true);
  for (Piece& piece : sending_.pieces) {  // in order: a piece is posted before the next one
    if (piece.state != Piece::State::copying_out) continue;
    if (!exchange_.device->is_done(piece.buffer.free)) break;
    piece.message = transport_.post(message_of(piece, true));
    piece.state = Piece::State::travelling;
    ++moves_;
  }
  while (!sending_.pieces.empty() && sending_.pieces.front().state == Piece::State::travelling &&
         sending_.pieces.front().message.test()) {
    area_.give_back(std::move(sending_.pieces.front().buffer));
    sending_.pieces.pop_front();
    ++moves_;
  }
}

void StagedExchange::move_receives() {
  begin_pieces(receiving_, false);
  while (!receiving_.pieces.empty() && receiving_.pieces.front().message.test()) {
    Piece& piece = receiving_.pieces.front();
    exchange_.device->copy(piece.buffer.memory.get(), exchange_.receive.data() + piece.first,
                           piece.bytes, Transfers::Way::to_device);
    arrived_ = exchange_.device->transferred();
    piece.buffer.free = arrived_;
    area_.give_back(std::move(piece.buffer));
    receiving_.pieces.pop_front();
    ++moves_;
  }
}

void StagedExchange::move_on() {
  for (int64_t before = -1; before != moves_ && !done();) {
    before = moves_;
    move_sends();
    move_receives();
  }
}

bool StagedExchange::is_copying_out() const {
  return std::any_of(sending_.pieces.begin(), sending_.pieces.end(),
                     [](const Piece& piece) { return piece.state == Piece::State::copying_out; });
}

void StagedExchange::complete() {
  if (std::exchange(completed_, true)) return;
  std::erase(area_.under_way_, this);
  compute_behind(*exchange_.device, transport_.context().traffic.waited_seconds, arrived_);
}

bool StagedExchange::test() {
  if (completed_) return true;
  area_.drive();
  if (!done()) return false;
  complete();
  return true;
}

void StagedExchange::wait() {
  exchange_.device->begin_pause();
  if (test()) return;
  const double limit = transport_.context().timeout_seconds;
  const Clock::time_point start = Clock::now();
  Clock::time_point moved = start;
  Clock::time_point owed_since = start;  // only what another rank owes is timed, not one's own GPU
  constexpr double kYield = 5e-3;
  constexpr std::chrono::microseconds kNap(50);
  int64_t moves = moves_;
  while (!test()) {
    const bool has_moved = std::exchange(moves, moves_) != moves_;
    if (has_moved) moved = Clock::now();
    if (has_moved || is_copying_out()) owed_since = Clock::now();
    if (limit > 0 && seconds_since(owed_since) > limit)
      transport_.fail(
          transport_.timeout_message(exchange_, receiving_.done() ? exchange_.to : exchange_.from));
    if (seconds_since(moved) > kYield) {
      std::this_thread::sleep_for(kNap);
    } else {
      sched_yield();
    }
  }
}

void StagedExchange::abandon() noexcept {
  std::erase(area_.under_way_, this);
  // Each message tells its transport.
  for (Direction* direction : {&sending_, &receiving_}) direction->pieces.clear();
}

}  // namespace ringbolt
