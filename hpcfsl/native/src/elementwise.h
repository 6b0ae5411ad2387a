// Layers that work on one number at a time, in place, and the change of order before flat features.
#pragma once

#include "layer.h"
#include "philox.h"

namespace ISA {

// An activation function; each gives its value and, from the value and the output's gradient, the input's gradient.
struct Relu {
    static Vec value(Vec x) { return x < Vec{} ? Vec{} : x; }
    static Vec gradient(Vec y, Vec g) { return y <= Vec{} ? Vec{} : g; }
};
struct Tanh {
    static Vec value(Vec x) { return hyperbolic_tangent(x); }
    static Vec gradient(Vec y, Vec g) { return g * (1.0f - y * y); }
};
struct Sigmoid {
    static Vec value(Vec x) { return sigmoid(x); }
    static Vec gradient(Vec y, Vec g) { return g * y * (1.0f - y); }
};

template <typename Function>
class Activation : public Layer {
  public:
    Activation(Shape input, bool in_place) : in_place_(in_place) { in = out = input; }

    void plan(Planner &planner) override {
        if (in_place_) out_at = in_at;
        else Layer::plan(planner);
    }

    void forward(Client &client) const override {
        const float *from = client.arena + in_at;
        float *to = client.arena + out_at;
        // The last vector may reach into the space behind the last row, which is there for that.
        for (long i = 0; i < client.batch * out.floats(); i += kLanes) store(to + i, Function::value(load(from + i)));
        clear_padding(to, client.batch * out.pixels());
    }

    float *backward(Client &client, float *gradient, float *) const override {
        const float *output = client.arena + out_at;
        for (long i = 0; i < client.batch * out.floats(); i += kLanes)
            store(gradient + i, Function::gradient(load(output + i), load(gradient + i)));
        return gradient;
    }

    bool reads_output() const override { return true; }

  private:
    // Only a function that is not 0 at 0 leaves something in the padding.
    void clear_padding(float *to, long rows) const {
        if (Function::value(Vec{})[0] == 0.0f) return;
        for (long row = 0; row < rows; row++)
            for (long i = out.channels; i < out.pitch; i++) to[row * out.pitch + i] = 0.0f;
    }

    bool in_place_;
};

// [height][width][channels] to flat features in torch's order, channels outermost; sequences keep theirs.
class Flatten : public Layer {
  public:
    Flatten(Shape input, bool channels_first) : channels_first_(channels_first) {
        in = input;
        out = flat(input.pixels() * input.channels);
    }

    void forward(Client &client) const override {
        const float *from = client.arena + in_at;
        float *to = client.arena + out_at;
        for (long n = 0; n < client.batch; n++, from += in.floats(), to += out.pitch)
            each([&](long pixel, long channel, long feature) { to[feature] = from[pixel * in.pitch + channel]; });
    }

    float *backward(Client &client, float *gradient, float *spare) const override {
        if (in.channels != in.pitch) std::memset(spare, 0, sizeof(float) * client.batch * in.floats());
        float *to = spare;
        for (long n = 0; n < client.batch; n++, to += in.floats(), gradient += out.pitch)
            each([&](long pixel, long channel, long feature) { to[pixel * in.pitch + channel] = gradient[feature]; });
        return spare;
    }

  private:
    template <typename F>
    void each(F call) const {
        const long pixels = in.pixels(), next = channels_first_ ? pixels : 1, row = channels_first_ ? 1 : in.channels;
        // Sixteen channels at a time: both sides then stay in the cache.
        for (long first = 0; first < in.channels; first += 16) {
            const long last = first + 16 < in.channels ? first + 16 : in.channels;
            for (long pixel = 0; pixel < pixels; pixel++)
                for (long channel = first; channel < last; channel++) call(pixel, channel, pixel * row + channel * next);
        }
    }

    bool channels_first_;
};

// Keyed dropout on flat features or sequences: the mask is a function of seed, round, client, step and layer.
class Dropout : public Layer {
  public:
    Dropout(Shape input, bool channels_first, long number, uint32_t threshold, float scale, uint32_t purpose)
        : channels_first_(channels_first), number_(number), threshold_(threshold), scale_(scale), purpose_(purpose) {
        in = out = input;
    }

    void plan(Planner &planner) override {
        Layer::plan(planner);
        mask_at_ = planner.take(planner.batch() * out.floats());
        words_at_ = planner.take(round_up(planner.batch() * out.pixels() * out.channels, kPhiloxWords));
    }

    void forward(Client &client) const override {
        draw(client);
        multiply(client, client.arena + in_at, client.arena + out_at);
    }

    float *backward(Client &client, float *gradient, float *) const override {
        multiply(client, gradient, gradient);
        return gradient;
    }

  private:
    void multiply(const Client &client, const float *from, float *to) const {
        const float *mask = client.arena + mask_at_;
        for (long i = 0; i < client.batch * out.floats(); i += kLanes) store(to + i, load(from + i) * load(mask + i));
    }

    void draw(Client &client) const {
        const long pixels = out.pixels(), features = pixels * out.channels;
        float *words = client.arena + words_at_, *mask = client.arena + mask_at_;
        const Stream stream{client.seed, purpose_, static_cast<uint32_t>(client.step * 64 + number_), client.id, client.round};
        for (long first = 0; first < client.batch * features; first += kPhiloxWords) {
            uint32_t drawn[kPhiloxWords];
            philox(stream, static_cast<uint32_t>(first / 4), drawn);
            for (long i = 0; i < kPhiloxWords; i++) words[first + i] = drawn[i] < threshold_ ? 0.0f : scale_;
        }
        const long next = channels_first_ ? pixels : 1, row = channels_first_ ? 1 : out.channels;
        for (long n = 0; n < client.batch; n++)
            for (long pixel = 0; pixel < pixels; pixel++)
                for (long channel = 0; channel < out.channels; channel++)
                    mask[(n * pixels + pixel) * out.pitch + channel] = words[n * features + pixel * row + channel * next];
    }

    bool channels_first_;
    long number_;
    uint32_t threshold_;
    float scale_;
    uint32_t purpose_;
    long mask_at_ = 0, words_at_ = 0;
};

}  // namespace ISA
