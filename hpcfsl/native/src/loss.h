// The loss of a batch and its gradient: cross-entropy of classes, or an error of numbers.
#pragma once

#include "layer.h"

namespace ISA {

// In the order of `LOSSES` in hpcfsl/training/native/program.py.
enum class Loss : int64_t { kCrossEntropy, kSquared, kAbsolute, kHuber };

// Overwrite logits [rows][pitch] with the gradient of their mean cross-entropy; return that mean.
static double cross_entropy(float *logits, const int64_t *targets, long rows, long classes, long pitch) {
    double total = 0.0;
    const float share = 1.0f / static_cast<float>(rows);
    for (long row = 0; row < rows; row++, logits += pitch) {
        float largest = logits[0];
        for (long i = 1; i < classes; i++) largest = logits[i] > largest ? logits[i] : largest;
        const float of_target = logits[targets[row]];
        double sum = 0.0;
        for (long i = classes; i < pitch; i++) logits[i] = -INFINITY;
        for (long i = 0; i < pitch; i += kLanes) store(logits + i, exponential(load(logits + i) - largest));
        for (long i = 0; i < classes; i++) sum += logits[i];
        const float scale = share / static_cast<float>(sum);
        for (long i = 0; i < classes; i++) logits[i] *= scale;
        for (long i = classes; i < pitch; i++) logits[i] = 0.0f;
        logits[targets[row]] -= share;
        total += std::log(sum) + (static_cast<double>(largest) - of_target);
    }
    return total / static_cast<double>(rows);
}

// Overwrite outputs [rows][pitch] with the gradient of their mean error; return that mean. Huber's turns at 1.
static double error_of_numbers(Loss loss, float *outputs, const float *targets, long rows, long count, long pitch) {
    double total = 0.0;
    const float share = 1.0f / static_cast<float>(rows * count);
    for (long row = 0; row < rows; row++, outputs += pitch, targets += count) {
        for (long i = 0; i < count; i++) {
            const float error = outputs[i] - targets[i], size = std::fabs(error);
            const float sign = error > 0.0f ? 1.0f : error < 0.0f ? -1.0f : error;  // that of a NaN is a NaN
            if (loss == Loss::kSquared) {
                total += static_cast<double>(error) * error;
                outputs[i] = 2.0f * share * error;
            } else if (loss == Loss::kAbsolute || size >= 1.0f) {
                total += loss == Loss::kHuber ? size - 0.5 : size;
                outputs[i] = share * sign;
            } else {
                total += 0.5 * static_cast<double>(error) * error;
                outputs[i] = share * error;
            }
        }
        for (long i = count; i < pitch; i++) outputs[i] = 0.0f;
    }
    return total / static_cast<double>(rows * count);
}

}  // namespace ISA
