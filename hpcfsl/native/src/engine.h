// Trains clients of one model, one after another or a few in step, with everything they need in the cache.
//
// A program is int64 numbers: batch, clients in step, timed (0 or 1), the input (kind, then sizes), the number of layers,
// from which to which of them (exclusive) the server half's are, and for each its kind followed by its numbers, in the
// order in which `Reader` takes them below. `hpcfsl/training/native/program.py` writes it.
#pragma once

#include "convolution.h"
#include "elementwise.h"
#include "linear.h"
#include "loss.h"
#include "norms.h"
#include "optimiser.h"
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

static float *take_floats(long count) {
    // Large blocks on large pages, where the system has them: the products walk over many rows that are far apart.
    constexpr long kLargePage = 2 << 20;
    const long bytes = 4 * (count + kLanes), align = bytes < kLargePage ? 64 : kLargePage;
    float *const block = static_cast<float *>(std::aligned_alloc(align, round_up(bytes, align)));
#if defined(__linux__)
    if (block && align == kLargePage) madvise(block, round_up(bytes, align), MADV_HUGEPAGE);
#endif
    if (block) std::memset(block, 0, 4 * count);
    return block;
}

class NativeEngine final : public Engine {
  public:
    explicit NativeEngine(const int64_t *program) { ready_ = build(Reader(program)) && allocate(); }
    ~NativeEngine() override {
        for (long i = 0; i < num_layers_; i++) delete layers_[i];
        for (long i = 0; i < together_; i++) {
            if (clients_) std::free(clients_[i].arena);
        }
        std::free(clients_), std::free(weights_), std::free(start_), std::free(drift_);
    }

    bool ready() const { return ready_; }

    int64_t bytes() const override {
        return 4 * (together_ * (planned_ + 4 * packed_) + (drift_ ? 2 : 1) * packed_);
    }

    int64_t times(double *seconds) override {
        std::memcpy(seconds, seconds_, sizeof(double) * (2 * num_layers_ + 2));
        std::memset(seconds_, 0, sizeof seconds_);
        return 2 * num_layers_ + 2;
    }

    bool train(const Job &job) override {
        if (job.drift && !drift_ && !(drift_ = take_floats(packed_))) return false;
        if (!job.own_starts && !begin(job.start)) return false;
        // Starts and drifts of their own are packed for one client at a time: none then trains in step with others.
        const long together = job.own_starts || job.drift ? 1 : together_;
        for (long first = 0; first < job.num_clients; first += together) {
            const long left = job.num_clients - first;
            if (job.own_starts && !begin(job.start + first * num_params_)) return false;
            if (job.drift) pack(job.drift + first * num_params_, drift_);
            train_together(job, first, left < together ? left : together);
        }
        return true;
    }

  private:
    // Take in the model that clients start from; false where memory does not suffice.
    bool begin(const float *model) {
        std::memset(start_, 0, sizeof(float) * packed_);
        pack(model, start_);
        for (long i = 0; i < num_layers_; i++)
            if (!layers_[i]->start(model)) return false;
        return true;
    }

    void pack(const float *model, float *to) const {
        for (long i = 0; i < num_layers_; i++) layers_[i]->pack(model, to + layers_[i]->weights_at);
    }

    bool build(Reader reader) {
        batch_ = reader.next(), together_ = reader.next(), timed_ = reader.next() != 0, num_params_ = reader.next();
        input_ = static_cast<Input>(reader.next());
        Shape shape = read_input(reader);
        num_layers_ = reader.next(), server_layers_[0] = reader.next(), server_layers_[1] = reader.next();
        for (long i = 0; i < num_layers_; i++) {
            layers_[i] = make_layer(reader, shape);
            if (!layers_[i]) return num_layers_ = i, false;
            shape = layers_[i]->out;
        }
        return true;
    }

    Shape read_input(Reader &reader) {
        const long a = reader.next(), b = reader.next(), c = reader.next(), exact = reader.next();
        Shape shape{};
        switch (input_) {
            case Input::kFlat: shape = flat(a); break;
            case Input::kSequence:
            case Input::kTurned: shape = sequence(a, b); break;
            case Input::kTokens: shape = {1, a, 1, 1}; break;
            case Input::kImage: shape = image(b, c, a); break;
        }
        // A convolution reads one channel after another, so its input needs no padding.
        if (exact) shape.pitch = shape.channels;
        return in_ = shape;
    }

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

    bool allocate() {
        Planner planner(batch_);
        long at = planner.take(batch_ * in_.floats()), largest = batch_ * in_.floats();
        inputs_at_ = at;
        bool trained_before = false;
        first_trained_ = num_layers_;
        for (long i = 0; i < num_layers_; i++) {
            Layer &layer = *layers_[i];
            layer.in_at = at;
            const bool trains = layer.packed > 0 || layer.shares();
            layer.needs_input_gradient = trained_before;
            if (trains && !trained_before) first_trained_ = i;
            trained_before = trained_before || trains;
            layer.weights_at = packed_;
            for (long edge = 0; edge < 2; edge++)
                if (i == server_layers_[edge]) server_at_[edge] = packed_;
            packed_ += round_up(layer.packed, 16);
            layer.plan(planner);
            at = layer.out_at;
            if (batch_ * layer.out.floats() > largest) largest = batch_ * layer.out.floats();
        }
        for (long edge = 0; edge < 2; edge++)
            if (server_layers_[edge] == num_layers_) server_at_[edge] = packed_;
        logits_at_ = at;
        gradients_at_[0] = planner.take(largest), gradients_at_[1] = planner.take(largest);
        tokens_at_ = planner.take(2 * batch_ * in_.width);
        targets_at_ = planner.take(2 * batch_ * layers_[num_layers_ - 1]->out.pixels());
        planned_ = planner.size();
        return allocate_clients(planner);
    }

    bool allocate_clients(const Planner &planner) {
        start_ = take_floats(packed_);
        weights_ = take_floats(together_ * 4 * packed_);
        clients_ = static_cast<Client *>(std::calloc(together_, sizeof(Client)));
        if (!start_ || !weights_ || !clients_) return false;
        for (long i = 0; i < together_; i++) {
            clients_[i].arena = take_floats(planned_);
            if (!clients_[i].arena) return false;
            planner.forbid_gaps(clients_[i].arena);
            clients_[i].weights = weights_ + 4 * i * packed_;
            clients_[i].gradients = clients_[i].weights + packed_;
        }
        return true;
    }

    void train_together(const Job &job, long first, long count) {
        const bool keeps_moments = job.descent.adam || job.descent.momentum > 0;
        for (long i = 0; i < count; i++) {
            Client &client = clients_[i];
            std::memcpy(client.weights, start_, sizeof(float) * packed_);
            if (keeps_moments) std::memset(client.gradients + packed_, 0, sizeof(float) * 2 * packed_);
            client.step = client.seen = 0;
            client.seed = static_cast<uint32_t>(job.seed), client.round = static_cast<uint32_t>(job.round);
            client.id = static_cast<uint32_t>(job.clients[first + i]);
        }
        for (long epoch = 0; epoch < job.epochs; epoch++) run_epoch(job, first, count, epoch);
        for (long i = 0; i < count; i++) {
            float *update = job.updates + (first + i) * num_params_;
            for (long layer = 0; layer < num_layers_; layer++) {
                const long at = layers_[layer]->weights_at;
                layers_[layer]->unpack(clients_[i].weights + at, start_ + at, update);
                layers_[layer]->unpack_shared(clients_[i], update);
            }
        }
    }

    void run_epoch(const Job &job, long first, long count, long epoch) {
        long longest = 0;
        for (long i = 0; i < count; i++) {
            job.losses[epoch * job.num_clients + first + i] = 0.0;
            if (job.counts[first + i] > longest) longest = job.counts[first + i];
        }
        for (long done = 0; done < longest; done += batch_) {
            // Those with samples left move to the front, so that a step has no gaps; `who` remembers.
            long active = 0;
            for (long i = 0; i < count; i++) {
                const long left = job.counts[first + i] - done;
                clients_[i].batch = left < batch_ ? (left > 0 ? left : 0) : batch_;
                if (clients_[i].batch > 0) active++;
            }
            if (active == count) {
                step_all(job, first, count, epoch, done, clients_, 0);
                continue;
            }
            for (long i = 0; i < count; i++)
                if (clients_[i].batch > 0) step_all(job, first, 1, epoch, done, clients_ + i, i);
        }
        for (long i = 0; i < count; i++) job.losses[epoch * job.num_clients + first + i] /= static_cast<double>(job.counts[first + i]);
    }

    // One local step of `count` clients; the first of them is number `first + offset` of the job.
    void step_all(const Job &job, long first, long count, long epoch, long done, Client *clients, long offset) {
        float *gradients[kMostTogether], *spares[kMostTogether];
        double clock = now();
        for (long i = 0; i < count; i++) {
            const long row = first + offset + i;
            gather(job, clients[i], job.orders + (epoch * job.num_clients + row) * job.longest + done);
            std::memset(clients[i].gradients, 0, sizeof(float) * packed_);
            gradients[i] = clients[i].arena + gradients_at_[0], spares[i] = clients[i].arena + gradients_at_[1];
        }
        lap(clock, 2 * num_layers_ + 1);
        for (long layer = 0; layer < num_layers_; layer++) {
            layers_[layer]->forward_all(clients, count);
            lap(clock, 2 * layer);
        }
        const Shape &out = layers_[num_layers_ - 1]->out;
        for (long i = 0; i < count; i++) {
            const long rows = clients[i].batch * out.pixels();
            std::memcpy(gradients[i], clients[i].arena + logits_at_, sizeof(float) * rows * out.pitch);
            const double loss = cross_entropy(gradients[i], targets(clients[i]), rows, out.channels, out.pitch);
            job.losses[epoch * job.num_clients + first + offset + i] += loss * static_cast<double>(clients[i].batch);
        }
        lap(clock, 2 * num_layers_);
        for (long layer = num_layers_ - 1; layer >= first_trained_; layer--) {
            layers_[layer]->backward_all(clients, count, gradients, spares);
            lap(clock, 2 * layer + 1);
        }
        for (long i = 0; i < count; i++) {
            Client &client = clients[i];
            take_step(job.descent, client.step, start_, job.drift ? drift_ : nullptr, client.weights, client.gradients,
                      {client.gradients + packed_, client.gradients + 2 * packed_}, server_at_, packed_);
            client.step++, client.seen += client.batch;
        }
        lap(clock, 2 * num_layers_ + 1);
    }

    int64_t *targets(Client &client) const { return reinterpret_cast<int64_t *>(client.arena + targets_at_); }

    // Copy the step's samples and targets to where the first layer and the loss read them.
    void gather(const Job &job, Client &client, const int64_t *rows) const {
        const long positions = layers_[num_layers_ - 1]->out.pixels();
        int64_t *to = targets(client), *tokens = reinterpret_cast<int64_t *>(client.arena + tokens_at_);
        for (long n = 0; n < client.batch; n++) {
            std::memcpy(to + n * positions, job.targets + rows[n] * positions, sizeof(int64_t) * positions);
            if (input_ == Input::kTokens)
                std::memcpy(tokens + n * in_.width, job.tokens + rows[n] * in_.width, sizeof(int64_t) * in_.width);
            else
                gather_sample(job.inputs + rows[n] * in_.pixels() * in_.channels, client.arena + inputs_at_ + n * in_.floats());
        }
        client.tokens = tokens;
    }

    void gather_sample(const float *from, float *to) const {
        if (input_ != Input::kImage && input_ != Input::kTurned) {
            pack_rows(from, in_.pixels(), in_.channels, to, in_.pitch);
            return;
        }
        for (long channel = 0; channel < in_.channels; channel++)
            for (long pixel = 0; pixel < in_.pixels(); pixel++) to[pixel * in_.pitch + channel] = *from++;
    }

    double now() const {
        if (!timed_) return 0.0;
        timespec time{};
        clock_gettime(CLOCK_MONOTONIC, &time);
        return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
    }
    void lap(double &clock, long place) {
        if (!timed_) return;
        const double time = now();
        seconds_[place] += time - clock;
        clock = time;
    }

    static constexpr long kMostTogether = 64;

    bool ready_ = false, timed_ = false;
    Input input_ = Input::kFlat;
    Shape in_{};
    Layer *layers_[kMostLayers] = {};
    double seconds_[2 * kMostLayers + 2] = {};
    long num_layers_ = 0, server_layers_[2] = {}, server_at_[2] = {}, batch_ = 0, together_ = 0, num_params_ = 0, first_trained_ = 0;
    long packed_ = 0, planned_ = 0, inputs_at_ = 0, logits_at_ = 0, tokens_at_ = 0, targets_at_ = 0;
    long gradients_at_[2] = {};
    float *start_ = nullptr, *drift_ = nullptr, *weights_ = nullptr;
    Client *clients_ = nullptr;
};

static Engine *make_engine(const int64_t *program) {
    NativeEngine *engine = new (std::nothrow) NativeEngine(program);
    if (engine && !engine->ready()) {
        delete engine;
        return nullptr;
    }
    return engine;
}

}  // namespace ISA
