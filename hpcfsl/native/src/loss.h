// Softmax and cross-entropy of a batch.
#pragma once

#include "layer.h"

namespace ISA {

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

}  // namespace ISA
