// The local step of one client: drift, proximal term, clipping, and plain, heavy-ball or Adam descent.
#pragma once

#include "vector.h"

namespace ISA {

// State of one client's optimiser; both are zero at the start of a round.
struct Moments {
    float *first, *second;
};

static double squared_norm(const float *values, long count) {
    double total = 0.0;
    for (long start = 0; start < count; start += 4096) {
        const long stop = start + 4096 < count ? start + 4096 : count;
        Vec sum{};
        for (long i = start; i < stop; i += kLanes) sum += load(values + i) * load(values + i);
        for (long lane = 0; lane < kLanes; lane++) total += sum[lane];
    }
    return total;
}

// Move the weights from `first` to `last` along their gradients at a rate.
static void descend(const Descent &rule, double learning_rate, long step, float *weights, const float *gradients,
                    const Moments &moments, long first, long last) {
    if (rule.adam) {
        const double power = static_cast<double>(step + 1);
        const float size = static_cast<float>(learning_rate / (1.0 - std::pow(rule.beta1, power)));
        const float root = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(rule.beta2, power)));
        const float b1 = static_cast<float>(rule.beta1), b2 = static_cast<float>(rule.beta2);
        const float epsilon = static_cast<float>(rule.epsilon);
        for (long i = first; i < last; i++) {
            moments.first[i] = b1 * moments.first[i] + (1.0f - b1) * gradients[i];
            moments.second[i] = b2 * moments.second[i] + (1.0f - b2) * gradients[i] * gradients[i];
            weights[i] -= size * moments.first[i] / (std::sqrt(moments.second[i]) * root + epsilon);
        }
        return;
    }
    const float rate = static_cast<float>(learning_rate);
    if (rule.momentum > 0) {
        for (long i = first; i < last; i++) {
            moments.first[i] = rule.momentum * moments.first[i] + gradients[i];
            weights[i] -= rate * moments.first[i];
        }
        return;
    }
    for (long i = first; i < last; i++) weights[i] -= rate * gradients[i];
}

// Take step number `step` (from 0) with gradients that are overwritten; `drift` is added to them, or null. The weights
// from `server_at[0]` to `server_at[1]` are the server half's; these and `count` are multiples of the lanes.
static void take_step(const Descent &rule, long step, const float *start, const float *drift, float *weights,
                      float *gradients, const Moments &moments, const long *server_at, long count) {
    if (drift)
        for (long i = 0; i < count; i++) gradients[i] += drift[i];
    if (rule.proximal > 0)
        for (long i = 0; i < count; i++) gradients[i] += rule.proximal * (weights[i] - start[i]);
    if (rule.clip_norm > 0) {
        const double norm = std::sqrt(squared_norm(gradients, count));
        const float factor = norm > rule.clip_norm ? static_cast<float>(rule.clip_norm / norm) : 1.0f;
        for (long i = 0; i < count; i++) gradients[i] *= factor;
    }
    if (rule.weight_decay > 0)
        for (long i = 0; i < count; i++) gradients[i] += rule.weight_decay * weights[i];
    descend(rule, rule.learning_rate, step, weights, gradients, moments, 0, server_at[0]);
    descend(rule, rule.server_learning_rate, step, weights, gradients, moments, server_at[0], server_at[1]);
    descend(rule, rule.learning_rate, step, weights, gradients, moments, server_at[1], count);
}

}  // namespace ISA
