// Normalisation of each sample by its own mean and variance: by groups of channels, or over the features of a position.
#pragma once

#include "layer.h"

namespace ISA {

// y = (x - mean) / sqrt(variance + epsilon) * scale + offset, the statistics over blocks of a sample: all pixels of a
// group of channels (Wu and He, ECCV 2018), or all features of one position (Ba et al., 2016).
class Norm : public Layer {
  public:
    // `blocks_of_pixels`: one block a pixel, of all its channels; otherwise `groups` blocks of channels over all pixels.
    Norm(Shape input, long groups, bool blocks_of_pixels, double epsilon, long scale_from, long offset_from)
        : groups_(groups), by_pixel_(blocks_of_pixels), epsilon_(epsilon), scale_from_(scale_from), offset_from_(offset_from) {
        in = out = input;
        packed = 2 * round_up(in.channels, kLanes);
    }

    void plan(Planner &planner) override {
        Layer::plan(planner);
        normal_at_ = planner.take(planner.batch() * out.floats());
        inverse_at_ = planner.take(planner.batch() * blocks());
    }

    void pack(const float *model, float *to) const override {
        std::memcpy(to, model + scale_from_, sizeof(float) * in.channels);
        std::memcpy(to + packed / 2, model + offset_from_, sizeof(float) * in.channels);
    }
    void unpack(const float *after, const float *before, float *update) const override {
        unpack_rows(after, before, 1, in.channels, in.channels, update + scale_from_);
        unpack_rows(after + packed / 2, before + packed / 2, 1, in.channels, in.channels, update + offset_from_);
    }

    void forward(Client &client) const override {
        const float *scale = client.weights + weights_at, *offset = scale + packed / 2;
        for (long n = 0; n < client.batch; n++) {
            const float *from = client.arena + in_at + n * in.floats();
            float *normal = client.arena + normal_at_ + n * in.floats(), *to = client.arena + out_at + n * in.floats();
            for (long block = 0; block < blocks(); block++) {
                double sum = 0.0, squares = 0.0;
                each(block, [&](long at, long) { sum += from[at]; });
                const double mean = sum / size();
                each(block, [&](long at, long) { squares += (from[at] - mean) * (from[at] - mean); });
                const float inverse = static_cast<float>(1.0 / std::sqrt(squares / size() + epsilon_));
                client.arena[inverse_at_ + n * blocks() + block] = inverse;
                each(block, [&](long at, long channel) {
                    normal[at] = static_cast<float>(from[at] - mean) * inverse;
                    to[at] = normal[at] * scale[channel] + offset[channel];
                });
            }
        }
    }

    float *backward(Client &client, float *gradient, float *spare) const override {
        const float *scale = client.weights + weights_at;
        float *of_scale = client.gradients + weights_at, *of_offset = of_scale + packed / 2;
        if (in.channels != in.pitch) std::memset(spare, 0, sizeof(float) * client.batch * in.floats());
        for (long n = 0; n < client.batch; n++) {
            const float *normal = client.arena + normal_at_ + n * in.floats(), *from = gradient + n * in.floats();
            float *to = spare + n * in.floats();
            for (long block = 0; block < blocks(); block++) {
                double sum = 0.0, product = 0.0;
                each(block, [&](long at, long channel) {
                    of_scale[channel] += from[at] * normal[at];
                    of_offset[channel] += from[at];
                    sum += from[at] * scale[channel];
                    product += from[at] * scale[channel] * normal[at];
                });
                const float inverse = client.arena[inverse_at_ + n * blocks() + block];
                const float mean = static_cast<float>(sum / size()), slope = static_cast<float>(product / size());
                each(block, [&](long at, long channel) {
                    to[at] = (from[at] * scale[channel] - mean - normal[at] * slope) * inverse;
                });
            }
        }
        return spare;
    }

  private:
    long blocks() const { return by_pixel_ ? in.pixels() : groups_; }
    double size() const { return static_cast<double>(by_pixel_ ? in.channels : in.pixels() * in.channels / groups_); }

    template <typename F>
    void each(long block, F call) const {
        const long width = by_pixel_ ? in.channels : in.channels / groups_, first = by_pixel_ ? 0 : block * width;
        const long from = by_pixel_ ? block : 0, to = by_pixel_ ? block + 1 : in.pixels();
        for (long pixel = from; pixel < to; pixel++)
            for (long channel = first; channel < first + width; channel++) call(pixel * in.pitch + channel, channel);
    }

    long groups_;
    bool by_pixel_;
    double epsilon_;
    long scale_from_, offset_from_, normal_at_ = 0, inverse_at_ = 0;
};

}  // namespace ISA
