// What a program says: int64 numbers, read one after another, and the layers that they name.
//
// A program is: batch, clients in step, timed (0 or 1), the input (kind, then sizes), the number of layers, from which to
// which of them (exclusive) the server half's are, whether channels come first for torch in what enters and in what leaves
// the server half, the loss, and for each layer its kind followed by its numbers, in the order in which they are taken below.
// `hpcfsl/training/native/program.py` writes it.
#pragma once

#include "convolution.h"
#include "elementwise.h"
#include "linear.h"
#include "norms.h"
#include "pooling.h"
#include "recurrent.h"
#include "shared_linear.h"

namespace ISA {

// A turned sequence is [features][positions] in the samples.
enum class Input : int64_t { kFlat, kSequence, kImage, kTokens, kTurned };
enum class Kind : int64_t {
    kLinear, kConvolution, kMaxPooling, kAveragePooling, kRelu, kTanh, kSigmoid, kFlatten, kDropout, kEmbedding, kGru,
    kNorm, kSharedLinear, kMeanEmbedding
};

constexpr long kMostLayers = 256;

class Reader {
  public:
    explicit Reader(const int64_t *at) : at_(at) {}
    long next() { return static_cast<long>(*at_++); }
    double next_real() {
        double value;
        std::memcpy(&value, at_++, sizeof value);
        return value;
    }
    Window next_window() {
        Window window{};
        window.kernel_height = next(), window.kernel_width = next(), window.stride_height = next();
        window.stride_width = next(), window.pad_height = next(), window.pad_width = next();
        window.dilation_height = next(), window.dilation_width = next();
        return window;
    }

  private:
    const int64_t *at_;
};

// Return the layer that comes next in a program, or null where memory does not suffice.
static Layer *make_layer(Reader &reader, Shape in) {
    const Kind kind = static_cast<Kind>(reader.next());
    const long in_place = kind == Kind::kRelu || kind == Kind::kTanh || kind == Kind::kSigmoid || kind == Kind::kDropout ? reader.next() : 0;
    switch (kind) {
        case Kind::kRelu: return new (std::nothrow) Activation<Relu>(in, in_place != 0);
        case Kind::kTanh: return new (std::nothrow) Activation<Tanh>(in, in_place != 0);
        case Kind::kSigmoid: return new (std::nothrow) Activation<Sigmoid>(in, in_place != 0);
        case Kind::kMaxPooling: return new (std::nothrow) MaxPooling(in, reader.next_window());
        case Kind::kAveragePooling: return new (std::nothrow) AveragePooling(in, reader.next_window());
        case Kind::kFlatten: return new (std::nothrow) Flatten(in, reader.next() != 0);
        case Kind::kLinear: {
            const long outputs = reader.next(), bias = reader.next(), weight_from = reader.next();
            return new (std::nothrow) Linear(in, outputs, bias != 0, weight_from, reader.next());
        }
        case Kind::kSharedLinear: {
            const long outputs = reader.next(), bias = reader.next(), weight_from = reader.next();
            const long bias_from = reader.next(), seen = reader.next();
            const float rate = static_cast<float>(reader.next_real());
            return new (std::nothrow) SharedLinear(in, outputs, bias != 0, weight_from, bias_from, seen, rate);
        }
        case Kind::kConvolution: {
            const long outputs = reader.next(), bias = reader.next(), weight_from = reader.next();
            const long bias_from = reader.next();
            return new (std::nothrow) Convolution(in, outputs, reader.next_window(), bias != 0, weight_from, bias_from);
        }
        case Kind::kDropout: {
            const long channels_first = reader.next(), number = reader.next();
            const uint32_t threshold = static_cast<uint32_t>(reader.next());
            const float scale = static_cast<float>(reader.next_real());
            const uint32_t purpose = static_cast<uint32_t>(reader.next());
            return new (std::nothrow) Dropout(in, in_place != 0, channels_first != 0, number, threshold, scale, purpose);
        }
        case Kind::kEmbedding: {
            const long tokens = reader.next(), features = reader.next();
            return new (std::nothrow) Embedding(in.width, tokens, features, reader.next());
        }
        case Kind::kMeanEmbedding: {
            const long tokens = reader.next(), features = reader.next(), weight_from = reader.next();
            return new (std::nothrow) MeanEmbedding(in.width, tokens, features, weight_from, reader.next());
        }
        case Kind::kGru: {
            const long hidden = reader.next(), input = reader.next(), state = reader.next();
            const long input_bias = reader.next();
            return new (std::nothrow) Gru(in, hidden, {input, state, input_bias, reader.next()});
        }
        case Kind::kNorm: {
            const long groups = reader.next(), by_pixel = reader.next();
            const double epsilon = reader.next_real();
            const long scale_from = reader.next();
            return new (std::nothrow) Norm(in, groups, by_pixel != 0, epsilon, scale_from, reader.next());
        }
    }
    return nullptr;
}

}  // namespace ISA
