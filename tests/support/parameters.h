// Random parameters of a whole model, by Hugging Face's names, for comparing a model with the
// oracle.
#pragma once

#include <cmath>

#include "core/base/random.h"
#include "core/model/config.h"
#include "tests/support/random_values.h"
#include "tests/support/reference/model.h"

namespace ringbolt::testing_support {

/// Matrices uniform with variance 1 / inputs, so that activations stay of order one; norms near 1;
/// biases near 0. Rounded to `dtype`, so that a device of that type holds the same numbers.
inline reference::Parameters random_parameters(const ModelConfig& config, DType dtype,
                                               uint64_t seed = 1) {
  reference::Parameters parameters;
  for (const ParameterGroup& group : parameter_groups(config)) {
    for (const ParameterSpec& spec : group.tensors) {
      const bool matrix = spec.shape.rank() == 2;
      const double width = matrix ? std::sqrt(3.0 / static_cast<double>(spec.shape[1])) : 0.3;
      std::vector<double> values =
          random_values(seed ^ stream_of(spec.name), spec.shape.elements(), -width, width);
      if (spec.initial == InitialValue::one) {
        for (double& x : values) x += 1.0;
      }
      parameters[spec.name] = rounded_to(dtype, std::move(values));
    }
  }
  return parameters;
}

}  // namespace ringbolt::testing_support
