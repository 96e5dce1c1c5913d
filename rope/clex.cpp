#include "rope/clex.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ringbolt {
namespace {

using State = std::vector<double>;

/// a + h b
State moved(const State& a, double h, const State& b) {
  State sum(a);
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += h * b[i];
  return sum;
}

struct Unit {
  double value;
  double slope;
};

Unit activate(ClexActivation kind, double x) {
  if (kind == ClexActivation::tanh) {
    const double y = std::tanh(x);
    return {y, 1 - y * y};
  }
  const double s = 1 / (1 + std::exp(-x));
  return {x * s, s * (1 + x * (1 - s))};
}

/// Inputs of the hidden units: x (n) times up (n, hidden).
State hidden_inputs(const ClexWeights& w, const State& x) {
  const auto hidden = static_cast<size_t>(w.hidden);
  State sums(hidden);
  for (size_t i = 0; i < x.size(); ++i) {
    for (size_t h = 0; h < hidden; ++h) sums[h] += x[i] * w.up[i * hidden + h];
  }
  return sums;
}

}  // namespace

Clex::Clex(int64_t dim, double base, ClexWeights weights, ClexActivation activation,
           double time_step)
    : dim_(dim),
      base_(base),
      w_(std::move(weights)),
      activation_(activation),
      time_step_(time_step) {}

Clex::Clex(const ModelConfig& c, ClexWeights weights)
    : Clex(rotary_dimension(c.rope_scaling, c.head_dim), c.rope_theta, std::move(weights),
           c.rope_scaling.clex_activation, c.rope_scaling.time_step) {}

int64_t Clex::scale_of(int64_t length, int64_t original_length, double max_factor) {
  const int64_t needed = (length + original_length - 1) / original_length;
  return std::clamp<int64_t>(needed, 1, std::max<int64_t>(1, static_cast<int64_t>(max_factor)));
}

Clex::State Clex::embedding(double t) const {
  const auto dim = static_cast<double>(dim_);
  const double log_base = std::log(base_) + dim / (dim - 2) * std::log(std::max(1.0, 2 * t - 1));
  State logs(static_cast<size_t>(dim_ / 2));
  for (size_t i = 0; i < logs.size(); ++i) logs[i] = -2 * static_cast<double>(i) / dim * log_base;
  return logs;
}

// --- the right-hand side -------------------------------------------------------------------------

Clex::State Clex::velocity(double t, const State& z) const {
  State v(z.size());
  const double alpha = std::max(1.0, 2 * t - 1);
  for (size_t i = 0; i < v.size(); ++i) {
    v[i] = -4 * static_cast<double>(i) / (static_cast<double>(dim_ - 2) * alpha);  // xi
  }
  if (w_.hidden == 0) return v;
  const State sums = hidden_inputs(w_, moved(z, 1, embedding(t)));
  for (size_t h = 0; h < sums.size(); ++h) {
    const double unit = activate(activation_, sums[h]).value;
    for (size_t i = 0; i < v.size(); ++i) v[i] += unit * w_.down[h * v.size() + i];
  }
  return v;
}

Clex::State Clex::velocity_backward(double t, const State& z, const State& dv, Gradients& g) const {
  State dz(z.size());
  const State x = moved(z, 1, embedding(t));
  const State sums = hidden_inputs(w_, x);
  const size_t hidden = sums.size();
  for (size_t h = 0; h < hidden; ++h) {
    const Unit unit = activate(activation_, sums[h]);
    double dunit = 0;
    for (size_t i = 0; i < z.size(); ++i) {
      g.down[h * z.size() + i] += unit.value * dv[i];
      dunit += w_.down[h * z.size() + i] * dv[i];
    }
    const double dsum = dunit * unit.slope;
    for (size_t i = 0; i < z.size(); ++i) {
      g.up[i * hidden + h] += dsum * x[i];
      dz[i] += dsum * w_.up[i * hidden + h];
    }
  }
  return dz;
}

// --- one Runge-Kutta step ------------------------------------------------------------------------

Clex::State Clex::step(double t, double h, const State& z) const {
  const State k1 = velocity(t, z);
  const State k2 = velocity(t + h / 2, moved(z, h / 2, k1));
  const State k3 = velocity(t + h / 2, moved(z, h / 2, k2));
  const State k4 = velocity(t + h, moved(z, h, k3));
  State next(z);
  for (size_t i = 0; i < z.size(); ++i) next[i] += h / 6 * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]);
  return next;
}

Clex::State Clex::step_backward(double t, double h, const State& z, const State& dnext,
                                Gradients& g) const {
  const State zero(z.size());
  const State z2 = moved(z, h / 2, velocity(t, z));
  const State z3 = moved(z, h / 2, velocity(t + h / 2, z2));
  const State z4 = moved(z, h, velocity(t + h / 2, z3));
  State dz = dnext;
  const State d4 = velocity_backward(t + h, z4, moved(zero, h / 6, dnext), g);
  const State d3 = velocity_backward(t + h / 2, z3, moved(moved(zero, h / 3, dnext), h, d4), g);
  const State d2 = velocity_backward(t + h / 2, z2, moved(moved(zero, h / 3, dnext), h / 2, d3), g);
  const State d1 = velocity_backward(t, z, moved(moved(zero, h / 6, dnext), h / 2, d2), g);
  for (size_t i = 0; i < dz.size(); ++i) dz[i] += d1[i] + d2[i] + d3[i] + d4[i];
  return dz;
}

// --- from scale to scale -------------------------------------------------------------------------

void Clex::for_steps(double from, double to,
                     const std::function<void(double time, double h)>& body) const {
  const auto steps = static_cast<int64_t>(std::ceil((to - from) / time_step_ - 1e-9));
  const double h = (to - from) / static_cast<double>(steps);
  for (int64_t n = 0; n < steps; ++n) body(from + h * static_cast<double>(n), h);
}

std::vector<std::vector<double>> Clex::frequencies(std::span<const double> scales) const {
  State z = embedding(1);
  double at = 1;
  std::vector<std::vector<double>> all;
  for (const double scale : scales) {
    for_steps(at, scale, [&](double time, double h) { z = step(time, h, z); });
    at = scale;
    all.push_back(z);
    for (double& value : all.back()) value = std::exp(value);
  }
  return all;
}

Clex::Gradients Clex::backward(std::span<const double> scales,
                               std::span<const std::vector<double>> dfrequencies) const {
  Gradients g{State(w_.up.size()), State(w_.down.size())};
  std::vector<State> states{embedding(1)};  // before each step, and after the last
  std::vector<std::pair<double, double>> times;
  std::vector<size_t> steps_to;  // of each scale
  for (size_t k = 0; k < scales.size(); ++k) {
    for_steps(k == 0 ? 1 : scales[k - 1], scales[k], [&](double time, double h) {
      times.emplace_back(time, h);
      states.push_back(step(time, h, states.back()));
    });
    steps_to.push_back(times.size());
  }
  State dz(states.front().size());
  size_t n = times.size();
  for (size_t k = scales.size(); k-- > 0;) {
    for (; n > steps_to[k]; --n)
      dz = step_backward(times[n - 1].first, times[n - 1].second, states[n - 1], dz, g);
    for (size_t i = 0; i < dz.size(); ++i) dz[i] += dfrequencies[k][i] * std::exp(states[n][i]);
  }
  for (; n > 0; --n)
    dz = step_backward(times[n - 1].first, times[n - 1].second, states[n - 1], dz, g);
  return g;
}

}  // namespace ringbolt
