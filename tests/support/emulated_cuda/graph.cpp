#include "tests/support/emulated_cuda/graph.h"

#include <algorithm>

#include "tests/support/emulated_cuda/device.h"

namespace ringbolt::emulated_cuda {

Graph::~Graph() {
  for (const GraphMemory& block : memory) Device::get().forget_reserved(block.memory);
}

GraphMemory* Graph::find(const void* pointer) {
  const auto found = std::find_if(memory.begin(), memory.end(),
                                  [&](const GraphMemory& m) { return m.memory == pointer; });
  return found == memory.end() ? nullptr : &*found;
}

bool Graph::are_before(const std::vector<size_t>& nodes_, const std::vector<size_t>& ends) const {
  std::vector<bool> seen(nodes.size());
  std::vector<size_t> open = ends;
  while (!open.empty()) {
    const size_t node = open.back();
    open.pop_back();
    if (seen[node]) continue;
    seen[node] = true;
    open.insert(open.end(), nodes[node].after.begin(), nodes[node].after.end());
  }
  return std::all_of(nodes_.begin(), nodes_.end(), [&](size_t node) { return seen[node]; });
}

Launch::Launch(std::shared_ptr<Graph> graph)
    : graph_(std::move(graph)),
      waits_(graph_->nodes.size()),
      next_(graph_->nodes.size()),
      left_(graph_->nodes.size()) {
  for (size_t node = 0; node < left_; ++node) {
    waits_[node] = graph_->nodes[node].after.size();
    for (const size_t before : graph_->nodes[node].after) next_[before].push_back(node);
    if (waits_[node] == 0) ready_.push_back(node);
  }
}

bool Launch::may_run() const {
  return std::any_of(ready_.begin(), ready_.end(), [&](size_t node) {
    return !graph_->nodes[node].ready || graph_->nodes[node].ready();
  });
}

bool Launch::run_one(std::mt19937_64& random) {
  size_t chosen = random() % ready_.size();
  for (; graph_->nodes[ready_[chosen]].ready && !graph_->nodes[ready_[chosen]].ready();)
    chosen = (chosen + 1) % ready_.size();
  const size_t node = ready_[chosen];
  ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(chosen));
  graph_->nodes[node].run(random());
  for (const size_t after : next_[node]) {
    if (--waits_[after] == 0) ready_.push_back(after);
  }
  return --left_ == 0;
}

}  // namespace ringbolt::emulated_cuda
