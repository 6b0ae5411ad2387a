// Layers of sequence models: embeddings of tokens and a gated recurrent unit.
#pragma once

#include "layer.h"

namespace ISA {

class Embedding : public Layer {
  public:
    Embedding(long positions, long tokens, long features, long weight_from) : tokens_(tokens), weight_from_(weight_from) {
        in = {1, positions, 1, 1};
        out = sequence(positions, features);
        packed = tokens * out.pitch;
    }

    void pack(const float *model, float *to) const override {
        pack_rows(model + weight_from_, tokens_, out.channels, to, out.pitch);
    }
    void unpack(const float *after, const float *before, float *update) const override {
        unpack_rows(after, before, tokens_, out.channels, out.pitch, update + weight_from_);
    }

    void forward(Client &client) const override {
        const float *weights = client.weights + weights_at;
        float *to = client.arena + out_at;
        for (long i = 0; i < client.batch * out.width; i++)
            std::memcpy(to + i * out.pitch, weights + client.tokens[i] * out.pitch, sizeof(float) * out.pitch);
    }

    float *backward(Client &client, float *gradient, float *spare) const override {
        float *gradients = client.gradients + weights_at;
        for (long i = 0; i < client.batch * out.width; i++) {
            float *row = gradients + client.tokens[i] * out.pitch;
            for (long at = 0; at < out.pitch; at += kLanes) store(row + at, load(row + at) + load(gradient + i * out.pitch + at));
        }
        return spare;
    }

  private:
    long tokens_, weight_from_;
};

// The mean of the embeddings of the positions that are no padding; zeros where all are.
class MeanEmbedding : public Embedding {
  public:
    MeanEmbedding(long positions, long tokens, long features, long weight_from, long padding)
        : Embedding(positions, tokens, features, weight_from), padding_(padding) {
        out = flat(features);
    }

    void forward(Client &client) const override {
        const float *weights = client.weights + weights_at;
        for (long n = 0; n < client.batch; n++) {
            float *to = client.arena + out_at + n * out.pitch;
            std::memset(to, 0, sizeof(float) * out.pitch);
            each_present(client, n, [&](long token) { add(weights + token * out.pitch, 1.0f, to); });
            const float share = share_of(client, n);
            for (long at = 0; at < out.pitch; at += kLanes) store(to + at, load(to + at) * share);
        }
    }

    float *backward(Client &client, float *gradient, float *spare) const override {
        float *gradients = client.gradients + weights_at;
        for (long n = 0; n < client.batch; n++) {
            const float share = share_of(client, n);
            each_present(client, n, [&](long token) { add(gradient + n * out.pitch, share, gradients + token * out.pitch); });
        }
        return spare;
    }

  private:
    template <typename F>
    void each_present(const Client &client, long n, F call) const {
        const int64_t *text = client.tokens + n * in.width;
        for (long i = 0; i < in.width; i++)
            if (text[i] != padding_) call(static_cast<long>(text[i]));
    }

    float share_of(const Client &client, long n) const {
        long present = 0;
        each_present(client, n, [&](long) { present++; });
        return 1.0f / static_cast<float>(present ? present : 1);
    }

    void add(const float *row, float factor, float *to) const {
        for (long at = 0; at < out.pitch; at += kLanes) store(to + at, load(to + at) + load(row + at) * factor);
    }

    long padding_;
};

// Cho et al. (EMNLP 2014) in the form of cuDNN and torch: the reset gate acts on the hidden state's product.
//   r, z = sigmoid(W_i x + b_i + W_h h + b_h);  n = tanh(W_n x + b_n + r (V_n h + c_n));  h' = (1 - z) n + z h
class Gru : public Layer {
  public:
    // Places in the model's vector: weights of the input and of the state, then their biases.
    struct Places {
        long input, state, input_bias, state_bias;
    };

    Gru(Shape input, long hidden, Places places) : hidden_(hidden), from_(places) {
        in = input;
        out = sequence(input.width, hidden);
        gates_ = 3 * out.pitch;
        state_at_ = gates_ * in.pitch;
        input_bias_at_ = state_at_ + gates_ * out.pitch;
        state_bias_at_ = input_bias_at_ + gates_;
        packed = state_bias_at_ + gates_;
    }

    bool reads_output() const override { return true; }

    void plan(Planner &planner) override {
        Layer::plan(planner);
        const long rows = planner.batch() * out.width;
        gates_at_ = planner.take(rows * gates_);       // r, z, n
        products_at_ = planner.take(rows * out.pitch);  // V_n h + c_n
        input_gradients_at_ = planner.take(rows * gates_);
        state_gradients_at_ = planner.take(rows * gates_);
        step_at_ = planner.take(planner.batch() * gates_);
        carry_at_ = planner.take(planner.batch() * out.pitch);
        zero_at_ = planner.take(out.pitch);
        input_transposed_at_ = planner.take(in.pitch * gates_);
        state_transposed_at_ = planner.take(out.pitch * gates_);
    }

    void pack(const float *model, float *to) const override {
        for (long gate = 0; gate < 3; gate++) {
            pack_rows(model + from_.input + gate * hidden_ * in.channels, hidden_, in.channels,
                      to + gate * out.pitch * in.pitch, in.pitch);
            pack_rows(model + from_.state + gate * hidden_ * hidden_, hidden_, hidden_,
                      to + state_at_ + gate * out.pitch * out.pitch, out.pitch);
        }
        pack_rows(model + from_.input_bias, 3, hidden_, to + input_bias_at_, out.pitch);
        pack_rows(model + from_.state_bias, 3, hidden_, to + state_bias_at_, out.pitch);
    }

    void unpack(const float *after, const float *before, float *update) const override {
        for (long gate = 0; gate < 3; gate++) {
            const long input = gate * out.pitch * in.pitch, state = state_at_ + gate * out.pitch * out.pitch;
            unpack_rows(after + input, before + input, hidden_, in.channels, in.pitch,
                        update + from_.input + gate * hidden_ * in.channels);
            unpack_rows(after + state, before + state, hidden_, hidden_, out.pitch,
                        update + from_.state + gate * hidden_ * hidden_);
        }
        unpack_rows(after + input_bias_at_, before + input_bias_at_, 3, hidden_, out.pitch, update + from_.input_bias);
        unpack_rows(after + state_bias_at_, before + state_bias_at_, 3, hidden_, out.pitch, update + from_.state_bias);
    }

    void forward(Client &client) const override {
        const float *weights = client.weights + weights_at;
        float *arena = client.arena, *input_transposed = arena + input_transposed_at_;
        float *state_transposed = arena + state_transposed_at_, *step = arena + step_at_;
        transpose(weights, in.channels, in.pitch, input_transposed);
        transpose(weights + state_at_, hidden_, out.pitch, state_transposed);
        // The inputs of all positions at once; only the state's product has to wait for the position before.
        multiply_nn(client.batch * in.width, gates_, arena + in_at, in.pitch, {1, in.channels, 0}, input_transposed, gates_,
                    weights + input_bias_at_, arena + gates_at_, gates_, Into::kSet);
        const long next_sample = out.width * out.pitch;
        for (long t = 0; t < out.width; t++) {
            const float *before = t ? arena + out_at + (t - 1) * out.pitch : arena + zero_at_;
            multiply_nn(client.batch, gates_, before, t ? next_sample : 0, {1, hidden_, 0}, state_transposed, gates_,
                        weights + state_bias_at_, step, gates_, Into::kSet);
            for (long n = 0; n < client.batch; n++)
                advance(arena + gates_at_ + (n * out.width + t) * gates_, step + n * gates_,
                        before + (t ? n * next_sample : 0), arena + products_at_ + (n * out.width + t) * out.pitch,
                        arena + out_at + (n * out.width + t) * out.pitch);
        }
    }

    float *backward(Client &client, float *gradient, float *spare) const override {
        float *arena = client.arena, *carry = arena + carry_at_;
        const float *weights = client.weights + weights_at;
        std::memset(carry, 0, sizeof(float) * client.batch * out.pitch);
        const long next_sample = out.width * out.pitch, next_gates = out.width * gates_;
        for (long t = out.width - 1; t >= 0; t--) {
            for (long n = 0; n < client.batch; n++) {
                const long row = n * out.width + t;
                const float *before = t ? arena + out_at + (row - 1) * out.pitch : arena + zero_at_;
                retreat(arena + gates_at_ + row * gates_, arena + products_at_ + row * out.pitch, before,
                        gradient + row * out.pitch, carry + n * out.pitch, arena + input_gradients_at_ + row * gates_,
                        arena + state_gradients_at_ + row * gates_);
            }
            if (t)
                multiply_nn(client.batch, out.pitch, arena + state_gradients_at_ + t * gates_, next_gates, {1, gates_, 0},
                            weights + state_at_, out.pitch, nullptr, carry, out.pitch, Into::kAdd);
        }
        add_weight_gradients(client, next_sample, next_gates);
        if (needs_input_gradient)
            multiply_nn(client.batch * in.width, in.pitch, arena + input_gradients_at_, gates_, {1, gates_, 0}, weights,
                        in.pitch, nullptr, spare, in.pitch, Into::kSet);
        return spare;
    }

  private:
    void add_weight_gradients(Client &client, long next_sample, long next_gates) const {
        float *gradients = client.gradients + weights_at;
        const float *input = client.arena + input_gradients_at_, *state = client.arena + state_gradients_at_;
        const long rows = client.batch * out.width;
        multiply_tn(gates_, in.pitch, {1, rows, 0, gates_, 0, in.pitch}, input, client.arena + in_at, gradients, in.pitch);
        // Position t meets the state after t - 1; before the first the state is zero.
        multiply_tn(gates_, out.pitch, {client.batch, out.width - 1, next_gates, gates_, next_sample, out.pitch},
                    state + gates_, client.arena + out_at, gradients + state_at_, out.pitch);
        add_columns(input, rows, gates_, gradients + input_bias_at_);
        add_columns(state, rows, gates_, gradients + state_bias_at_);
    }

    // [gates][columns] to [columns][gates].
    void transpose(const float *from, long columns, long pitch, float *to) const {
        for (long column = 0; column < columns; column++)
            for (long row = 0; row < gates_; row++) to[column * gates_ + row] = from[row * pitch + column];
    }

    // `gates` holds the inputs' products and becomes r, z, n.
    void advance(float *gates, const float *products, const float *before, float *kept, float *after) const {
        const long h = out.pitch;
        for (long i = 0; i < h; i += kLanes) {
            const Vec r = sigmoid(load(gates + i) + load(products + i));
            const Vec z = sigmoid(load(gates + h + i) + load(products + h + i));
            const Vec product = load(products + 2 * h + i);
            const Vec n = hyperbolic_tangent(load(gates + 2 * h + i) + r * product);
            store(gates + i, r), store(gates + h + i, z), store(gates + 2 * h + i, n);
            store(kept + i, product);
            store(after + i, n + z * (load(before + i) - n));
        }
    }

    // `carry` holds the gradient from the positions after; it becomes what reaches the state before past the products.
    void retreat(const float *gates, const float *products, const float *before, const float *gradient, float *carry,
                 float *input, float *state) const {
        const long h = out.pitch;
        for (long i = 0; i < h; i += kLanes) {
            const Vec r = load(gates + i), z = load(gates + h + i), n = load(gates + 2 * h + i);
            const Vec total = load(gradient + i) + load(carry + i);
            const Vec of_n = total * (1.0f - z) * (1.0f - n * n);
            const Vec of_z = total * (load(before + i) - n) * z * (1.0f - z);
            const Vec of_r = of_n * load(products + i) * r * (1.0f - r);
            store(input + i, of_r), store(input + h + i, of_z), store(input + 2 * h + i, of_n);
            store(state + i, of_r), store(state + h + i, of_z), store(state + 2 * h + i, of_n * r);
            store(carry + i, total * z);
        }
    }

    long hidden_, gates_, state_at_, input_bias_at_, state_bias_at_;
    Places from_;
    long gates_at_ = 0, products_at_ = 0, input_gradients_at_ = 0, state_gradients_at_ = 0, step_at_ = 0, carry_at_ = 0,
         zero_at_ = 0, input_transposed_at_ = 0, state_transposed_at_ = 0;
};

}  // namespace ISA
