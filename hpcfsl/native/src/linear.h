// A fully connected layer, on flat features or on every position of a sequence.
#pragma once

#include "layer.h"

namespace ISA {

class Linear : public Layer {
  public:
    Linear(Shape input, long outputs, bool bias, long weight_from, long bias_from)
        : outputs_(outputs), bias_(bias), weight_from_(weight_from), bias_from_(bias_from) {
        in = input;
        out = input;
        out.channels = outputs;
        out.pitch = feature_pitch(outputs);
        bias_at_ = rows() * in.pitch;
        packed = bias_at_ + (bias ? out.pitch : 0);
    }

    void plan(Planner &planner) override {
        Layer::plan(planner);
        if (many_rows()) transposed_at_ = planner.take(in.pitch * out.pitch);
    }

    void pack(const float *model, float *to) const override {
        pack_rows(model + weight_from_, outputs_, in.channels, to, in.pitch);
        if (bias_) std::memcpy(to + bias_at_, model + bias_from_, sizeof(float) * outputs_);
    }

    void unpack(const float *after, const float *before, float *update) const override {
        unpack_rows(after, before, outputs_, in.channels, in.pitch, update + weight_from_);
        if (bias_) unpack_rows(after + bias_at_, before + bias_at_, 1, outputs_, outputs_, update + bias_from_);
    }

    void forward(Client &client) const override {
        const float *weights = client.weights + weights_at, *bias = bias_ ? weights + bias_at_ : nullptr;
        const float *from = client.arena + in_at;
        float *to = client.arena + out_at;
        const long count = client.batch * in.pixels();
        if (!many_rows()) {
            multiply_nt(count, rows(), in.pitch, from, in.pitch, weights, in.pitch, bias, to, out.pitch);
            return;
        }
        float *transposed = client.arena + transposed_at_;
        for (long column = 0; column < in.channels; column++)
            for (long row = 0; row < outputs_; row++) transposed[column * out.pitch + row] = weights[row * in.pitch + column];
        multiply_nn(count, out.pitch, from, in.pitch, {1, in.channels, 0}, transposed, out.pitch, bias, to, out.pitch,
                    Into::kSet);
    }

    float *backward(Client &client, float *gradient, float *spare) const override {
        const long count = client.batch * in.pixels();
        float *gradients = client.gradients + weights_at;
        if (needs_input_gradient)
            multiply_nn(count, in.pitch, gradient, out.pitch, {1, outputs_, 0}, client.weights + weights_at, in.pitch,
                        nullptr, spare, in.pitch, Into::kSet);
        multiply_tn(outputs_, in.pitch, {1, count, 0, out.pitch, 0, in.pitch}, gradient, client.arena + in_at, gradients,
                    in.pitch);
        if (bias_) add_columns(gradient, count, out.pitch, gradients + bias_at_);
        return spare;
    }

  private:
    // Rows of packed weights: dot products come four at a time.
    long rows() const { return round_up(outputs_, 4); }
    // With many rows of input a transposed copy of the weights pays, whose product has no sums across lanes.
    bool many_rows() const { return in.pixels() > 1; }

    long outputs_;
    bool bias_;
    long weight_from_, bias_from_, bias_at_, transposed_at_ = 0;
};

}  // namespace ISA
