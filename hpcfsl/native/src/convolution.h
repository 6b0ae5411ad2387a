// A convolution over images, or over sequences as images of height 1.
//
// No unfolded copy of the input is made: with channels innermost, the pixels under one row of the kernel are one run of
// memory, so an output row is a product of overlapping rows of the input with the kernel.
#pragma once

#include "layer.h"

namespace ISA {

struct Window {
    long kernel_height, kernel_width, stride_height, stride_width, pad_height, pad_width, dilation_height, dilation_width;

    long out_height(long height) const {
        return (height + 2 * pad_height - dilation_height * (kernel_height - 1) - 1) / stride_height + 1;
    }
    long out_width(long width) const {
        return (width + 2 * pad_width - dilation_width * (kernel_width - 1) - 1) / stride_width + 1;
    }
};

class Convolution : public Layer {
  public:
    Convolution(Shape input, long outputs, Window window, bool bias, long weight_from, long bias_from)
        : w_(window), bias_(bias), weight_from_(weight_from), bias_from_(bias_from) {
        in = input;
        out = image(w_.out_height(in.height), w_.out_width(in.width), outputs);
        bias_at_ = w_.kernel_height * w_.kernel_width * in.pitch * out.pitch;
        packed = bias_at_ + (bias ? out.pitch : 0);
        padded_ = w_.pad_height > 0 || w_.pad_width > 0;
        padded_height_ = in.height + 2 * w_.pad_height, padded_width_ = in.width + 2 * w_.pad_width;
        spread_height_ = in.height + (w_.kernel_height - 1) * w_.dilation_height;
        spread_width_ = in.width + (w_.kernel_width - 1) * w_.dilation_width;
    }

    void plan(Planner &planner) override {
        Layer::plan(planner);
        if (padded_) padded_at_ = planner.take(planner.batch() * padded_height_ * padded_width_ * in.pitch);
        if (!needs_input_gradient) return;
        spread_at_ = planner.take(spread_height_ * spread_width_ * out.pitch);
        flipped_at_ = planner.take(bias_at_);
    }

    void pack(const float *model, float *to) const override {
        each_weight([&](long from, long at) { to[at] = model[weight_from_ + from]; });
        if (bias_) std::memcpy(to + bias_at_, model + bias_from_, sizeof(float) * out.channels);
    }

    void unpack(const float *after, const float *before, float *update) const override {
        each_weight([&](long from, long at) { update[weight_from_ + from] = after[at] - before[at]; });
        if (bias_) unpack_rows(after + bias_at_, before + bias_at_, 1, out.channels, out.channels, update + bias_from_);
    }

    void forward(Client &client) const override {
        const float *weights = client.weights + weights_at, *bias = bias_ ? weights + bias_at_ : nullptr;
        if (padded_) pad(client);
        const long row = padded_width_ * in.pitch;
        for (long n = 0; n < client.batch; n++) {
            const float *from = input(client, n);
            float *to = client.arena + out_at + n * out.floats();
            for (long y = 0; y < out.height; y++, to += out.width * out.pitch)
                convolve(out.width, out.pitch, from + y * w_.stride_height * row, w_.stride_width * in.pitch,
                         w_.dilation_height * row, in.pitch, weights, bias, to);
        }
    }

    float *backward(Client &client, float *gradient, float *spare) const override {
        float *gradients = client.gradients + weights_at;
        if (needs_input_gradient) flip(client);
        for (long n = 0; n < client.batch; n++) {
            const float *of_sample = gradient + n * out.floats();
            add_weight_gradient(input(client, n), of_sample, gradients);
            if (needs_input_gradient) input_gradient(client, of_sample, spare + n * in.floats());
        }
        if (bias_) add_columns(gradient, client.batch * out.pixels(), out.pitch, gradients + bias_at_);
        return spare;
    }

  private:
    // Call with the place of each weight in the model's vector [out][in][y][x] and in the packed one [y][x][in][out].
    template <typename F>
    void each_weight(F call) const {
        long from = 0;
        for (long o = 0; o < out.channels; o++)
            for (long i = 0; i < in.channels; i++)
                for (long tap = 0; tap < w_.kernel_height * w_.kernel_width; tap++, from++)
                    call(from, (tap * in.pitch + i) * out.pitch + o);
    }

    const float *input(const Client &client, long n) const {
        return padded_ ? client.arena + padded_at_ + n * padded_height_ * padded_width_ * in.pitch
                       : client.arena + in_at + n * in.floats();
    }

    void pad(Client &client) const {
        for (long n = 0; n < client.batch; n++)
            for (long y = 0; y < in.height; y++) {
                const long row = (n * padded_height_ + y + w_.pad_height) * padded_width_ + w_.pad_width;
                std::memcpy(client.arena + padded_at_ + row * in.pitch,
                            client.arena + in_at + n * in.floats() + y * in.width * in.pitch,
                            sizeof(float) * in.width * in.pitch);
            }
    }

    // One row of pixels: the kernel over an image whose pixels have `depth` channels and whose taps are `next_row` apart.
    void convolve(long pixels, long channels, const float *from, long step, long next_row, long depth,
                  const float *weights, const float *bias, float *to) const {
        if (w_.dilation_width == 1) {
            multiply_nn(pixels, channels, from, step, {w_.kernel_height, w_.kernel_width * depth, next_row}, weights,
                        channels, bias, to, channels, Into::kSet);
            return;
        }
        for (long y = 0; y < w_.kernel_height; y++)
            multiply_nn(pixels, channels, from + y * next_row, step, {w_.kernel_width, depth, w_.dilation_width * depth},
                        weights + y * w_.kernel_width * depth * channels, channels, y == 0 ? bias : nullptr, to, channels,
                        y == 0 ? Into::kSet : Into::kAdd);
    }

    void add_weight_gradient(const float *from, const float *gradient, float *gradients) const {
        const long row = padded_width_ * in.pitch, taps = w_.dilation_width == 1 ? 1 : w_.kernel_width;
        const long run = w_.kernel_width / taps * in.pitch;
        const Outer outer{out.height,           out.width,           w_.stride_height * row, w_.stride_width * in.pitch,
                          out.width * out.pitch, out.pitch};
        for (long y = 0; y < w_.kernel_height; y++)
            for (long tap = 0; tap < taps; tap++)
                multiply_tn(run, out.pitch, outer, from + y * w_.dilation_height * row + tap * w_.dilation_width * in.pitch,
                            gradient, gradients + (y * w_.kernel_width * in.pitch + tap * run) * out.pitch, out.pitch);
    }

    // The input's gradient is a convolution of the output's, spread out by the stride, with the kernel turned around.
    void flip(Client &client) const {
        const float *weights = client.weights + weights_at;
        float *flipped = client.arena + flipped_at_;
        const long taps = w_.kernel_height * w_.kernel_width;
        for (long tap = 0; tap < taps; tap++) {
            const float *from = weights + (taps - 1 - tap) * in.pitch * out.pitch;
            float *to = flipped + tap * in.pitch * out.pitch;
            for (long o = 0; o < out.channels; o++)
                for (long i = 0; i < in.channels; i++) to[o * in.pitch + i] = from[i * out.pitch + o];
        }
    }

    void input_gradient(Client &client, const float *gradient, float *to) const {
        float *wide = client.arena + spread_at_;  // its margins are zero and stay so
        const long top = (w_.kernel_height - 1) * w_.dilation_height - w_.pad_height;
        const long left = (w_.kernel_width - 1) * w_.dilation_width - w_.pad_width;
        for (long y = 0; y < out.height; y++)
            for (long x = 0; x < out.width; x++)
                std::memcpy(wide + ((top + y * w_.stride_height) * spread_width_ + left + x * w_.stride_width) * out.pitch,
                            gradient + (y * out.width + x) * out.pitch, sizeof(float) * out.pitch);
        for (long y = 0; y < in.height; y++)
            convolve(in.width, in.pitch, wide + y * spread_width_ * out.pitch, out.pitch,
                     w_.dilation_height * spread_width_ * out.pitch, out.pitch, client.arena + flipped_at_, nullptr,
                     to + y * in.width * in.pitch);
    }

    Window w_;
    bool bias_, padded_;
    long weight_from_, bias_from_, bias_at_, padded_at_ = 0, spread_at_ = 0, flipped_at_ = 0;
    long padded_height_, padded_width_, spread_height_, spread_width_;
};

}  // namespace ISA
