// CLEX (arXiv 2310.16450): the logarithms of the frequencies follow a neural differential equation
// in the scale t.
//
//   z(1) = ln theta,   dz/dt = act((z + ln theta_ntk(t)) W_up) W_down + xi(t),   xi(t) = d ln
//   theta_ntk / dt
//
// theta_ntk(t) are the frequencies of the base b (2t - 1)^(d/(d-2)), so with W_down = 0, as
// training begins, z(t) is their logarithm: dynamic NTK with factor 2. Solved by the classical
// Runge-Kutta method in steps of 0.01, as released.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/model/config.h"

namespace ringbolt {

/// The network between d/2 logarithms and `hidden` units.
struct ClexWeights {
  int64_t hidden = 0;
  std::vector<double> up;    ///< (d/2, hidden)
  std::vector<double> down;  ///< (hidden, d/2)
};

class Clex {
 public:
  /// Weights with hidden = 0 are none at all: W_down = 0. Requires: dim > 2.
  Clex(int64_t dim, double base, ClexWeights weights = {},
       ClexActivation activation = ClexActivation::tanh, double time_step = 0.01);
  /// As a configuration says. Requires: its method is CLEX.
  Clex(const ModelConfig& config, ClexWeights weights);

  /// Frequencies (d/2) at each of `scales`, which begin at 1 or more and ascend: one solution
  /// through all of them.
  std::vector<std::vector<double>> frequencies(std::span<const double> scales) const;
  std::vector<double> frequencies(double t) const { return frequencies(std::span(&t, 1)).front(); }

  struct Gradients {
    std::vector<double> up;
    std::vector<double> down;
  };
  /// Of a loss with these gradients of the frequencies (d/2) at each of `scales`, through every
  /// step of the solver.
  Gradients backward(std::span<const double> scales,
                     std::span<const std::vector<double>> dfrequencies) const;

  /// ceil(length / L), at most max_factor: the scale of a sequence.
  static int64_t scale_of(int64_t length, int64_t original_length, double max_factor);

 private:
  using State = std::vector<double>;
  State velocity(double t, const State& z) const;
  /// Adds to the gradients what dv, the gradient of velocity(t, z), gives; returns that of z.
  State velocity_backward(double t, const State& z, const State& dv, Gradients& gradients) const;
  State step(double t, double h, const State& z) const;
  State step_backward(double t, double h, const State& z, const State& dnext,
                      Gradients& gradients) const;
  State embedding(double t) const;  ///< ln theta_ntk(t)
  /// body(time, h) for the equal steps of at most time_step from one scale to another.
  void for_steps(double from, double to,
                 const std::function<void(double time, double h)>& body) const;

  int64_t dim_;
  double base_;
  ClexWeights w_;
  ClexActivation activation_;
  double time_step_;
};

}  // namespace ringbolt
