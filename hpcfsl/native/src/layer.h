// What every layer of a client's model is to the engine.
//
// Activations of a batch lie as [sample][row][column][channel] with channels innermost, padded with zeros to whole
// vectors (`pitch`). Flat features are one row, one column; the positions of a sequence are columns. A layer keeps its
// weights in the order that suits its products (`pack`), and gives updates back in the order of the layout (`unpack`).
#pragma once

#include "gemm.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace ISA {

struct Shape {
    long height, width, channels, pitch;

    long pixels() const { return height * width; }
    long floats() const { return height * width * pitch; }
};

static inline Shape flat(long features) { return {1, 1, features, feature_pitch(features)}; }
static inline Shape sequence(long positions, long features) { return {1, positions, features, feature_pitch(features)}; }
static inline Shape image(long height, long width, long channels) {
    return {height, width, channels, channel_pitch(channels)};
}

// One client in training.
struct Client {
    float *weights, *gradients;  // packed, of all layers
    float *arena;                // activations and what layers keep
    const int64_t *tokens;       // [batch][positions], where the input is tokens
    long batch;                  // samples in this step
    long step;                   // local steps before this one
    long seen;                   // samples in those steps
    uint32_t seed, round, id;
};

// Places in a client's arena, in floats; all start on a cache line.
class Planner {
  public:
    explicit Planner(long batch) : batch_(batch) {}
    long batch() const { return batch_; }
    long take(long floats) {
        const long start = size_;
        size_ += round_up(floats + kLanes, 16);  // a vector more: the last of a row of few channels may reach beyond
        guard(start + floats + kLanes);
        return start;
    }
    long size() const { return size_; }

// Under AddressSanitizer (jobs/sanitize.sh) a stretch behind each place is forbidden, so that no layer leaves its own.
#if defined(__SANITIZE_ADDRESS__)
    void forbid_gaps(const float *arena) const {
        for (long i = 0; i < count_; i++) __asan_poison_memory_region(arena + from_[i], sizeof(float) * (to_[i] - from_[i]));
    }

  private:
    void guard(long from) { from_[count_] = from, to_[count_++] = size_ += 64; }

    long from_[4096], to_[4096], count_ = 0;
#else
    void forbid_gaps(const float *) const {}

  private:
    void guard(long) {}

#endif
    long batch_, size_ = 0;
};

class Layer {
  public:
    Shape in{}, out{};
    long in_at = 0, out_at = 0;  // input and output activations in the arena
    long weights_at = 0;         // first packed weight
    long packed = 0;             // packed weights
    bool needs_input_gradient = true;

    virtual ~Layer() = default;
    // Take places in the arena; `out_at` is one of them, or `in_at` for a layer that works in place.
    virtual void plan(Planner &planner) { out_at = planner.take(planner.batch() * out.floats()); }
    // Write packed weights from the model's flat vector; padding is zero already.
    virtual void pack(const float *, float *) const {}
    // Write `after - before` of packed weights into the flat update.
    virtual void unpack(const float *, const float *, float *) const {}
    virtual void forward(Client &client) const = 0;
    // Add to the gradients of the weights. `gradient` is that of the output; the input's goes into `spare`, or stays in
    // `gradient`: return which. Every float of it is written, padding too.
    virtual float *backward(Client &client, float *gradient, float *spare) const = 0;
    // The same for clients that train in step; on return `gradients[i]` is the input's gradient of client i.
    virtual void forward_all(Client *clients, long count) const {
        for (long i = 0; i < count; i++) forward(clients[i]);
    }
    virtual void backward_all(Client *clients, long count, float **gradients, float **spares) const {
        for (long i = 0; i < count; i++) {
            float *const found = backward(clients[i], gradients[i], spares[i]);
            if (found != gradients[i]) spares[i] = gradients[i], gradients[i] = found;
        }
    }
    // Whether clients that train in step share work here.
    virtual bool shares() const { return false; }
    // Take in the model that a round starts from; false where memory does not suffice.
    virtual bool start(const float *) { return true; }
    // Write the update of weights that `unpack` knows nothing of.
    virtual void unpack_shared(const Client &, float *) const {}
    // Whether `backward` reads the output, so that a later layer must not work in place on it.
    virtual bool reads_output() const { return false; }
};

// a[count] with stride `pitch` between rows from packed rows, and back.
static inline void pack_rows(const float *from, long rows, long columns, float *to, long pitch) {
    for (long row = 0; row < rows; row++) std::memcpy(to + row * pitch, from + row * columns, sizeof(float) * columns);
}
static inline void unpack_rows(const float *after, const float *before, long rows, long columns, long pitch, float *to) {
    for (long row = 0; row < rows; row++)
        for (long i = 0; i < columns; i++) to[row * columns + i] = after[row * pitch + i] - before[row * pitch + i];
}

// sums[column] += the columns of rows; `columns` a multiple of half a vector.
static inline void add_columns(const float *from, long rows, long pitch, float *sums) {
    long column = 0;
    for (; column + kLanes <= pitch; column += kLanes) {
        Vec sum{};
        for (long row = 0; row < rows; row++) sum += load(from + row * pitch + column);
        store(sums + column, load(sums + column) + sum);
    }
    if (column < pitch) {
        HalfVec sum{};
        for (long row = 0; row < rows; row++) sum += load_as<HalfVec>(from + row * pitch + column);
        store_as<HalfVec>(sums + column, load_as<HalfVec>(sums + column) + sum);
    }
}

}  // namespace ISA
