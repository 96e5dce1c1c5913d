#include "apps/stop_signal.h"

#include <array>
#include <csignal>

namespace ringbolt {
namespace {

constexpr std::array<int, 3> kSignals{SIGTERM, SIGUSR1, SIGINT};

volatile std::sig_atomic_t g_received = 0;

void note(int number) {
  if (g_received == SIGINT && number == SIGINT) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }
  if (g_received == 0 || number == SIGINT) g_received = number;
}

}  // namespace

StopSignal::StopSignal() {
  g_received = 0;
  for (const int number : kSignals) {
    struct sigaction action {};
    action.sa_handler = note;
    action.sa_flags = SA_RESTART;
    sigaction(number, &action, nullptr);
  }
}

StopSignal::~StopSignal() {
  for (const int number : kSignals) std::signal(number, SIG_DFL);
}

int StopSignal::received() const { return g_received; }

const char* signal_name(int number) {
  switch (number) {
    case SIGTERM:
      return "SIGTERM";
    case SIGUSR1:
      return "SIGUSR1";
    case SIGINT:
      return "SIGINT";
    default:
      return "no signal";
  }
}

}  // namespace ringbolt
