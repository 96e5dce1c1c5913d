// CLEX (arXiv 2310.16450): the logarithms of the frequencies follow a neural differential equation in the scale t.
//
//   z(1) = ln theta,   dz/dt = act((z + ln theta_ntk(t)) W_up) W_down + xi(t),   xi(t) = d ln theta_ntk / dt
//
// theta_ntk(t) are the frequencies of the base b (2t - 1)^(d/(d-2)), so with W_down = 0, as training begins, z(t) is
// their logarithm: dynamic NTK with factor 2. Solved by the classical Runge-Kutta method in steps of 0.01, as released.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace ringbolt {

enum class ClexActivation { tanh, silu };

/// The network between d/2 logarithms and `hidden` units.
struct ClexWeights {
  int64_t hidden = 0;
  std::vector<double> up;    ///< (d/2, hidden)
  std::vector<double> down;  ///< (hidden, d/2)
};

class Clex {
 public:
  /// Weights with hidden = 0 are none at all: W_down = 0. Requires: dim > 2.
  Clex(int64_t dim, double base, ClexWeights weights = {}, ClexActivation activation = ClexActivation::tanh,
       double time_step = 0.01);

  /// Frequencies (d/2) at scale t >= 1.
  std::vector<double> frequencies(double t) const;

  struct Gradients {
    std::vector<double> up;
    std::vector<double> down;
  };
  /// Of a loss with this gradient of the frequencies (d/2) at scale t, through every step of the solver.
  Gradients backward(double t, const std::vector<double>& dfrequencies) const;

  /// ceil(length / L), at most max_factor: the scale of a sequence.
  static int64_t scale_of(int64_t length, int64_t original_length, double max_factor);

 private:
  using State = std::vector<double>;
  State velocity(double t, const State& z) const;
  /// Adds to the gradients what dv, the gradient of velocity(t, z), gives; returns that of z.
  State velocity_backward(double t, const State& z, const State& dv, Gradients& gradients) const;
  State step(double t, double h, const State& z) const;
  State step_backward(double t, double h, const State& z, const State& dnext, Gradients& gradients) const;
  State embedding(double t) const;  ///< ln theta_ntk(t)
  void for_steps(double t, const std::function<void(double time, double h)>& body) const;

  int64_t dim_;
  double base_;
  ClexWeights w_;
  ClexActivation activation_;
  double time_step_;
};

}  // namespace ringbolt
