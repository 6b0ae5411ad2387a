// A wide fully connected layer whose weights no client has a copy of.
//
// With plain descent a client's weights are the common start plus a term of low rank: the sum over the samples it has
// seen of (output gradient) x (input). Keeping those samples instead of weights saves the memory traffic that dominates a
// wide layer at small batches: the start is read once for all clients that train together, and weights are written once.
#pragma once

#include "layer.h"

namespace ISA {

class SharedLinear : public Layer {
  public:
    // `seen`: the most samples a client sees in a round. `rate`: the step size of plain descent.
    SharedLinear(Shape input, long outputs, bool bias, long weight_from, long bias_from, long seen, float rate)
        : outputs_(outputs), bias_(bias), weight_from_(weight_from), bias_from_(bias_from), seen_(round_up(seen, 4)),
          rate_(rate) {
        in = input;
        out = flat(outputs);
        packed = bias ? out.pitch : 0;
    }
    ~SharedLinear() override { std::free(common_); }

    bool shares() const override { return true; }

    // The common start in both orders, [outputs][inputs] and [inputs][outputs].
    bool start(const float *model) override {
        const long size = outputs_ * in.pitch + in.pitch * out.pitch;
        if (!common_) common_ = static_cast<float *>(std::calloc(size + kLanes, sizeof(float)));
        if (!common_) return false;
        transposed_ = common_ + outputs_ * in.pitch;
        pack_rows(model + weight_from_, outputs_, in.channels, common_, in.pitch);
        for (long column = 0; column < in.channels; column++)
            for (long row = 0; row < outputs_; row++)
                transposed_[column * out.pitch + row] = common_[row * in.pitch + column];
        return true;
    }

    void plan(Planner &planner) override {
        Layer::plan(planner);
        inputs_at_ = planner.take(seen_ * in.pitch);
        gradients_at_ = planner.take(seen_ * out.pitch);
        overlap_at_ = planner.take(planner.batch() * seen_);
    }

    void pack(const float *model, float *to) const override {
        if (bias_) std::memcpy(to, model + bias_from_, sizeof(float) * outputs_);
    }
    void unpack(const float *after, const float *before, float *update) const override {
        if (bias_) unpack_rows(after, before, 1, outputs_, outputs_, update + bias_from_);
    }
    void unpack_shared(const Client &client, float *update) const override {
        float *to = update + weight_from_;
        const float *inputs = client.arena + inputs_at_, *gradients = client.arena + gradients_at_;
        std::memset(to, 0, sizeof(float) * outputs_ * in.channels);
        multiply_tn(outputs_, in.channels / kLanes * kLanes, {1, client.seen, 0, out.pitch, 0, in.pitch}, gradients, inputs,
                    to, in.channels);
        for (long column = in.channels / kLanes * kLanes; column < in.channels; column++)
            for (long row = 0; row < outputs_; row++)
                for (long m = 0; m < client.seen; m++)
                    to[row * in.channels + column] += gradients[m * out.pitch + row] * inputs[m * in.pitch + column];
    }

    void forward(Client &client) const override { forward_all(&client, 1); }

    void forward_all(Client *clients, long count) const override {
        constexpr long kBlock = 512;  // rows of the common weights that stay in the cache while all clients use them
        for (long first = 0; first < in.channels; first += kBlock) {
            const long rows = in.channels - first < kBlock ? in.channels - first : kBlock;
            for (long i = 0; i < count; i++) {
                const Client &client = clients[i];
                const float *bias = bias_ && first == 0 ? client.weights + weights_at : nullptr;
                multiply_nn(client.batch, out.pitch, client.arena + in_at + first, in.pitch, {1, rows, 0},
                            transposed_ + first * out.pitch, out.pitch, bias, client.arena + out_at, out.pitch,
                            first == 0 ? Into::kSet : Into::kAdd);
            }
        }
        for (long i = 0; i < count; i++) add_own(clients[i]);
    }

    float *backward(Client &client, float *gradient, float *spare) const override {
        float *gradients[] = {gradient}, *spares[] = {spare};
        backward_all(&client, 1, gradients, spares);
        return gradients[0];
    }

    void backward_all(Client *clients, long count, float **gradients, float **spares) const override {
        constexpr long kColumns = 256;
        for (long first = 0; needs_input_gradient && first < in.pitch; first += kColumns) {
            const long columns = in.pitch - first < kColumns ? in.pitch - first : kColumns;
            for (long i = 0; i < count; i++)
                multiply_nn(clients[i].batch, columns, gradients[i], out.pitch, {1, outputs_, 0}, common_ + first, in.pitch,
                            nullptr, spares[i] + first, in.pitch, Into::kSet);
        }
        for (long i = 0; i < count; i++) {
            if (needs_input_gradient) add_own_gradient(clients[i], gradients[i], spares[i]);
            if (bias_) add_columns(gradients[i], clients[i].batch, out.pitch, clients[i].gradients + weights_at);
            remember(clients[i], gradients[i]);
            float *const used = gradients[i];
            gradients[i] = spares[i], spares[i] = used;
        }
    }

  private:
    // What the client's own samples add to the common start's outputs.
    void add_own(const Client &client) const {
        if (!client.seen) return;
        float *overlap = client.arena + overlap_at_;
        multiply_nt(client.batch, round_up(client.seen, 4), in.pitch, client.arena + in_at, in.pitch,
                    client.arena + inputs_at_, in.pitch, nullptr, overlap, seen_);
        multiply_nn(client.batch, out.pitch, overlap, seen_, {1, client.seen, 0}, client.arena + gradients_at_, out.pitch,
                    nullptr, client.arena + out_at, out.pitch, Into::kAdd);
    }

    void add_own_gradient(const Client &client, const float *gradient, float *to) const {
        if (!client.seen) return;
        float *overlap = client.arena + overlap_at_;
        multiply_nt(client.batch, round_up(client.seen, 4), out.pitch, gradient, out.pitch, client.arena + gradients_at_,
                    out.pitch, nullptr, overlap, seen_);
        multiply_nn(client.batch, in.pitch, overlap, seen_, {1, client.seen, 0}, client.arena + inputs_at_, in.pitch,
                    nullptr, to, in.pitch, Into::kAdd);
    }

    void remember(const Client &client, const float *gradient) const {
        std::memcpy(client.arena + inputs_at_ + client.seen * in.pitch, client.arena + in_at,
                    sizeof(float) * client.batch * in.pitch);
        float *to = client.arena + gradients_at_ + client.seen * out.pitch;
        for (long i = 0; i < client.batch * out.pitch; i++) to[i] = -rate_ * gradient[i];
    }

    long outputs_;
    bool bias_;
    long weight_from_, bias_from_, seen_;
    float rate_;
    float *common_ = nullptr, *transposed_ = nullptr;
    long inputs_at_ = 0, gradients_at_ = 0, overlap_at_ = 0;
};

}  // namespace ISA
