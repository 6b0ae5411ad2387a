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

static inline void turn_four(const float *from, long from_pitch, float *to, long to_pitch) {
    Quad row[4];
    for (int i = 0; i < 4; i++) std::memcpy(&row[i], from + i * from_pitch, sizeof(Quad));
    const Quad a = pick<0, 4, 1, 5>(row[0], row[1]), b = pick<2, 6, 3, 7>(row[0], row[1]);
    const Quad c = pick<0, 4, 1, 5>(row[2], row[3]), d = pick<2, 6, 3, 7>(row[2], row[3]);
    const Quad columns[] = {pick<0, 1, 4, 5>(a, c), pick<2, 3, 6, 7>(a, c), pick<0, 1, 4, 5>(b, d),
                            pick<2, 3, 6, 7>(b, d)};
    for (int i = 0; i < 4; i++) std::memcpy(to + i * to_pitch, &columns[i], sizeof(Quad));
}

// to[column][row] = from[row][column], four by four.
static void turn(const float *from, long rows, long columns, long from_pitch, float *to, long to_pitch) {
    long row = 0;
    for (; row + 4 <= rows; row += 4) {
        long column = 0;
        for (; column + 4 <= columns; column += 4)
            turn_four(from + row * from_pitch + column, from_pitch, to + column * to_pitch + row, to_pitch);
        for (; column < columns; column++)
            for (long i = row; i < row + 4; i++) to[column * to_pitch + i] = from[i * from_pitch + column];
    }
    for (long column = 0; column < columns && row < rows; column++)
        for (long i = row; i < rows; i++) to[column * to_pitch + i] = from[i * from_pitch + column];
}

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
        for (long n = 0; n < client.batch; n++, from += in.floats(), to += out.pitch) {
            if (channels_first_) turn(from, in.pixels(), in.channels, in.pitch, to, in.pixels());
            else unpad(from, to);
        }
    }

    float *backward(Client &client, float *gradient, float *spare) const override {
        if (in.channels != in.pitch) std::memset(spare, 0, sizeof(float) * client.batch * in.floats());
        float *to = spare;
        for (long n = 0; n < client.batch; n++, to += in.floats(), gradient += out.pitch) {
            if (channels_first_) turn(gradient, in.channels, in.pixels(), in.pixels(), to, in.pitch);
            else pack_rows(gradient, in.pixels(), in.channels, to, in.pitch);
        }
        return spare;
    }

  private:
    void unpad(const float *from, float *to) const {
        for (long pixel = 0; pixel < in.pixels(); pixel++)
            std::memcpy(to + pixel * in.channels, from + pixel * in.pitch, sizeof(float) * in.channels);
    }

    bool channels_first_;
};

// Keyed dropout on flat features or sequences: the mask is a function of seed, round, client, step and layer.
class Dropout : public Layer {
  public:
    Dropout(Shape input, bool in_place, bool channels_first, long number, uint32_t threshold, float scale, uint32_t purpose)
        : in_place_(in_place), channels_first_(channels_first), number_(number), threshold_(threshold), scale_(scale),
          purpose_(purpose) {
        in = out = input;
    }

    void plan(Planner &planner) override {
        if (in_place_) out_at = in_at;
        else Layer::plan(planner);
        mask_at_ = planner.take(round_up(planner.batch() * out.floats(), kPhiloxWords));
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
        float *mask = client.arena + mask_at_;
        // Without padding between samples the words are the mask.
        float *words = pixels == 1 && out.channels == out.pitch ? mask : client.arena + words_at_;
        const uint32_t threshold = threshold_;
        const float scale = scale_;
        const Stream stream{client.seed, purpose_, static_cast<uint32_t>(client.step * 64 + number_), client.id, client.round};
        for (long first = 0; first < client.batch * features; first += kPhiloxWords) {
            alignas(64) uint32_t drawn[4][kPhiloxBlocks];
            alignas(64) float kept[4][kPhiloxBlocks];
            philox(stream, static_cast<uint32_t>(first / 4), drawn);
            for (long word = 0; word < 4; word++)
                for (long i = 0; i < kPhiloxBlocks; i++) kept[word][i] = drawn[word][i] < threshold ? 0.0f : scale;
            turn(kept[0], 4, kPhiloxBlocks, kPhiloxBlocks, words + first, 4);
        }
        if (words == mask) return;
        if (!channels_first_) {
            pack_rows(words, client.batch * pixels, out.channels, mask, out.pitch);
            return;
        }
        for (long n = 0; n < client.batch; n++)
            for (long pixel = 0; pixel < pixels; pixel++)
                for (long channel = 0; channel < out.channels; channel++)
                    mask[(n * pixels + pixel) * out.pitch + channel] = words[n * features + channel * pixels + pixel];
    }

    bool in_place_, channels_first_;
    long number_;
    uint32_t threshold_;
    float scale_;
    uint32_t purpose_;
    long mask_at_ = 0, words_at_ = 0;
};

}  // namespace ISA
