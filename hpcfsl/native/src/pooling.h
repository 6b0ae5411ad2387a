// Maximum and average over windows of an image or a sequence.
#pragma once

#include "convolution.h"

namespace ISA {

// Call `body` once for every vector of channels of a row of `pitch`, with the type of vector and its offset.
template <typename F>
static inline void each_vector(long pitch, F body) {
    long at = 0;
    for (; at + kLanes <= pitch; at += kLanes) body(Vec{}, at);
    if (at < pitch) body(HalfVec{}, at);
}

class Pooling : public Layer {
  public:
    Pooling(Shape input, Window window) : w_(window) {
        in = input;
        out = {w_.out_height(in.height), w_.out_width(in.width), in.channels, in.pitch};
    }

  protected:
    // Call with each tap of the window at output pixel (y, x) that lies inside the image: its number and its pixel.
    template <typename F>
    void each_tap(long y, long x, F call) const {
        for (long ky = 0; ky < w_.kernel_height; ky++)
            for (long kx = 0; kx < w_.kernel_width; kx++) {
                const long row = y * w_.stride_height + ky * w_.dilation_height - w_.pad_height;
                const long column = x * w_.stride_width + kx * w_.dilation_width - w_.pad_width;
                if (row < 0 || column < 0 || row >= in.height || column >= in.width) continue;
                call(ky * w_.kernel_width + kx, row * in.width + column);
            }
    }

    Window w_;
};

class MaxPooling : public Pooling {
  public:
    using Pooling::Pooling;

    void plan(Planner &planner) override {
        Layer::plan(planner);
        chosen_at_ = planner.take(planner.batch() * out.floats());
    }

    void forward(Client &client) const override {
        for (long n = 0; n < client.batch; n++)
            for (long y = 0; y < out.height; y++)
                for (long x = 0; x < out.width; x++) {
                    const long pixel = ((n * out.height + y) * out.width + x) * out.pitch;
                    each_vector(out.pitch, [&](auto kind, long at) {
                        take_largest<decltype(kind)>(client.arena + in_at + n * in.floats() + at, y, x,
                                                     client.arena + out_at + pixel + at,
                                                     client.arena + chosen_at_ + pixel + at);
                    });
                }
    }

    float *backward(Client &client, float *gradient, float *spare) const override {
        std::memset(spare, 0, sizeof(float) * client.batch * in.floats());
        for (long n = 0; n < client.batch; n++)
            for (long y = 0; y < out.height; y++)
                for (long x = 0; x < out.width; x++) {
                    const long pixel = ((n * out.height + y) * out.width + x) * out.pitch;
                    each_vector(out.pitch, [&](auto kind, long at) {
                        give_back<decltype(kind)>(gradient + pixel + at, client.arena + chosen_at_ + pixel + at, y, x,
                                                  spare + n * in.floats() + at);
                    });
                }
        return spare;
    }

  private:
    template <typename V>
    void take_largest(const float *from, long y, long x, float *to, float *chosen) const {
        V best = spread_as<V>(-INFINITY), tap_of_best{};
        each_tap(y, x, [&](long tap, long pixel) {
            const V value = load_as<V>(from + pixel * in.pitch);
            const auto better = (value > best) | (value != value);  // a NaN wins, as it does in torch
            best = better ? value : best;
            tap_of_best = better ? spread_as<V>(static_cast<float>(tap)) : tap_of_best;
        });
        store_as<V>(to, best);
        store_as<V>(chosen, tap_of_best);
    }

    template <typename V>
    void give_back(const float *gradient, const float *chosen, long y, long x, float *to) const {
        const V value = load_as<V>(gradient), tap_of_best = load_as<V>(chosen);
        each_tap(y, x, [&](long tap, long pixel) {
            float *at = to + pixel * in.pitch;
            const V share = tap_of_best == spread_as<V>(static_cast<float>(tap)) ? value : V{};
            store_as<V>(at, load_as<V>(at) + share);
        });
    }

    long chosen_at_ = 0;
};

class AveragePooling : public Pooling {
  public:
    using Pooling::Pooling;

    void forward(Client &client) const override {
        for (long n = 0; n < client.batch; n++)
            for (long y = 0; y < out.height; y++)
                for (long x = 0; x < out.width; x++) {
                    const float *from = client.arena + in_at + n * in.floats();
                    float *to = client.arena + out_at + ((n * out.height + y) * out.width + x) * out.pitch;
                    each_vector(out.pitch, [&](auto kind, long at) {
                        decltype(kind) sum{};
                        each_tap(y, x, [&](long, long pixel) { sum += load_as<decltype(kind)>(from + pixel * in.pitch + at); });
                        store_as<decltype(kind)>(to + at, sum * share());
                    });
                }
    }

    float *backward(Client &client, float *gradient, float *spare) const override {
        std::memset(spare, 0, sizeof(float) * client.batch * in.floats());
        for (long n = 0; n < client.batch; n++)
            for (long y = 0; y < out.height; y++)
                for (long x = 0; x < out.width; x++) {
                    const float *from = gradient + ((n * out.height + y) * out.width + x) * out.pitch;
                    float *to = spare + n * in.floats();
                    each_vector(out.pitch, [&](auto kind, long at) {
                        const auto value = load_as<decltype(kind)>(from + at) * share();
                        each_tap(y, x, [&](long, long pixel) {
                            float *there = to + pixel * in.pitch + at;
                            store_as<decltype(kind)>(there, load_as<decltype(kind)>(there) + value);
                        });
                    });
                }
        return spare;
    }

  private:
    // Padding counts as zeros, torch's default.
    float share() const { return 1.0f / static_cast<float>(w_.kernel_height * w_.kernel_width); }
};

}  // namespace ISA
