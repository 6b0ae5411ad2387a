// Trains clients of one model, one after another or a few in step, with everything they need in the cache. `program.h`
// says how a model is given.
#pragma once

#include "loss.h"
#include "optimiser.h"
#include "program.h"

namespace ISA {

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

    void step(const Step &job) override {
        const float *server = job.server - job.own_params;
        for (long i = server_layers_[0]; i < server_layers_[1]; i++) pack_layer(i, server, clients_[0].weights);
        for (long row = 0; row < job.num_clients; row++) {
            Client &client = clients_[0];
            if (!job.server_alone)
                for (long i = 0; i < num_layers_; i++)
                    if (!at_server(i)) pack_layer(i, job.own + row * job.own_params, client.weights);
            std::memset(client.gradients, 0, sizeof(float) * packed_);
            client.batch = job.sizes[row], client.step = job.places[row], client.seen = 0;
            client.seed = static_cast<uint32_t>(job.seed), client.round = static_cast<uint32_t>(job.round);
            client.id = static_cast<uint32_t>(job.clients[row]);
            pass(job, row, client);
            // Gradients are an update from nothing: `start_` holds zeros where no job has begun.
            for (long i = 0; job.gradients && i < num_layers_; i++) {
                const long at = layers_[i]->weights_at;
                layers_[i]->unpack(client.gradients + at, start_ + at, job.gradients + row * num_params_);
            }
        }
    }

  private:
    bool at_server(long layer) const { return server_layers_[0] <= layer && layer < server_layers_[1]; }

    void pack_layer(long layer, const float *model, float *to) const {
        layers_[layer]->pack(model, to + layers_[layer]->weights_at);
    }

    // Take one client through a step of which the server half is shared: forward, and backward unless it is `smash_alone`.
    void pass(const Step &job, long row, Client &client) {
        const Shape &cut = layers_[server_layers_[0]]->in, &returned = layers_[server_layers_[1] - 1]->out;
        const long at_cut = row * job.width * cut.pixels() * cut.channels;
        const long at_returned = row * job.width * returned.pixels() * returned.channels;
        float *const smashed = client.arena + layers_[server_layers_[0]]->in_at;
        const bool answered = job.server_alone && job.answers;
        read(job, client, [&](long n) { return row * job.width + n; });
        if (job.server_alone) {
            take_in(job.smashed + at_cut, cut, turned_[0], client.batch, smashed);
        } else {
            for (long i = 0; i < server_layers_[0]; i++) layers_[i]->forward(client);
            if (job.lies && job.lies[row]) {
                // What the client sent is in `smashed` already; what it made itself is what its own layers go back through.
                std::memcpy(client.arena + own_at_, smashed, sizeof(float) * client.batch * cut.floats());
                take_in(job.smashed + at_cut, cut, turned_[0], client.batch, smashed);
            } else {
                give_out(smashed, cut, turned_[0], client.batch, job.smashed + at_cut);
            }
            if (job.smash_alone) return;
        }
        const long last = answered ? server_layers_[1] : num_layers_, first = job.server_alone ? server_layers_[0] : 0;
        for (long i = server_layers_[0]; i < last; i++) layers_[i]->forward(client);
        float *gradient = client.arena + gradients_at_[0], *spare = client.arena + gradients_at_[1];
        if (answered) take_in(job.answers + at_returned, returned, turned_[1], client.batch, gradient);
        else job.losses[row] = begin_backward(client, gradient);
        for (long i = last - 1; i >= (first < first_trained_ ? first_trained_ : first); i--) {
            if (i + 1 == server_layers_[1] && job.answers && !answered)
                give_out(gradient, returned, turned_[1], client.batch, job.answers + at_returned);
            if (i + 1 == server_layers_[0] && job.lies && job.lies[row])
                std::memcpy(smashed, client.arena + own_at_, sizeof(float) * client.batch * cut.floats());
            float *const found = layers_[i]->backward(client, gradient, spare);
            if (found != gradient) spare = gradient, gradient = found;
        }
    }

    // Write activations as torch has them, and read them; `turned` where it has the channels first.
    static void give_out(const float *from, Shape shape, bool turned, long samples, float *to) {
        const long size = shape.pixels() * shape.channels;
        for (long n = 0; n < samples; n++, from += shape.floats(), to += size) {
            if (!turned)
                for (long pixel = 0; pixel < shape.pixels(); pixel++)
                    std::memcpy(to + pixel * shape.channels, from + pixel * shape.pitch, sizeof(float) * shape.channels);
            else
                turn(from, shape.pixels(), shape.channels, shape.pitch, to, shape.pixels());
        }
    }
    static void take_in(const float *from, Shape shape, bool turned, long samples, float *to) {
        std::memset(to, 0, sizeof(float) * samples * shape.floats());
        for (long n = 0; n < samples; n++, to += shape.floats(), from += shape.pixels() * shape.channels) {
            if (!turned) pack_rows(from, shape.pixels(), shape.channels, to, shape.pitch);
            else turn(from, shape.channels, shape.pixels(), shape.pixels(), to, shape.pitch);
        }
    }

    // Put the gradient of a client's mean loss at the outputs into `gradient`; return that loss.
    double begin_backward(Client &client, float *gradient) const {
        const Shape &out = layers_[num_layers_ - 1]->out;
        const long rows = client.batch * out.pixels();
        std::memcpy(gradient, client.arena + logits_at_, sizeof(float) * rows * out.pitch);
        if (loss_ == Loss::kCrossEntropy) return cross_entropy(gradient, classes(client), rows, out.channels, out.pitch);
        return error_of_numbers(loss_, gradient, numbers(client), rows, out.channels, out.pitch);
    }

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
        turned_[0] = reader.next() != 0, turned_[1] = reader.next() != 0;
        loss_ = static_cast<Loss>(reader.next());
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
        const Shape &last = layers_[num_layers_ - 1]->out;
        targets_at_ = planner.take(batch_ * last.pixels() * std::max(2L, last.channels));
        own_at_ = server_layers_[0] < num_layers_ ? planner.take(batch_ * layers_[server_layers_[0]]->in.floats()) : 0;
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
            const int64_t *order = job.orders + (epoch * job.num_clients + row) * job.longest + done;
            read(job, clients[i], [&](long n) { return order[n]; });
            std::memset(clients[i].gradients, 0, sizeof(float) * packed_);
            gradients[i] = clients[i].arena + gradients_at_[0], spares[i] = clients[i].arena + gradients_at_[1];
        }
        lap(clock, 2 * num_layers_ + 1);
        for (long layer = 0; layer < num_layers_; layer++) {
            layers_[layer]->forward_all(clients, count);
            lap(clock, 2 * layer);
        }
        for (long i = 0; i < count; i++) {
            const double loss = begin_backward(clients[i], gradients[i]);
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

    int64_t *classes(Client &client) const { return reinterpret_cast<int64_t *>(client.arena + targets_at_); }
    float *numbers(Client &client) const { return client.arena + targets_at_; }

    // Copy the step's samples and targets, where there are any, to where the first layer and the loss read them.
    template <typename Work, typename Place>
    void read(const Work &job, Client &client, Place place) const {
        const Shape &out = layers_[num_layers_ - 1]->out;
        const long positions = out.pixels(), outputs = positions * out.channels;
        int64_t *const tokens = reinterpret_cast<int64_t *>(client.arena + tokens_at_);
        for (long n = 0; n < client.batch; n++) {
            const long row = place(n);
            copy(job.classes, row, n, positions, classes(client));
            copy(job.numbers, row, n, outputs, numbers(client));
            copy(job.tokens, row, n, in_.width, tokens);
            if (job.inputs) gather_sample(job.inputs + row * in_.pixels() * in_.channels, client.arena + inputs_at_ + n * in_.floats());
        }
        client.tokens = tokens;
    }
    // Copy row `from` of rows of `count` to row `to`, where there are any.
    template <typename Value> static void copy(const Value *rows, long from, long to, long count, Value *where) {
        if (rows) std::memcpy(where + to * count, rows + from * count, sizeof(Value) * count);
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
    long gradients_at_[2] = {}, own_at_ = 0;
    bool turned_[2] = {};
    Loss loss_ = Loss::kCrossEntropy;
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
