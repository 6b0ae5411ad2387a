// What all files include before any instruction set is chosen: a header compiled for AVX-512 could otherwise be the copy
// of an inline function that the linker keeps for everybody.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#define KERNELS_NAME_(isa) #isa
#define KERNELS_NAME(isa) KERNELS_NAME_(isa)

// How a client descends (`TrainingSettings`), as `hpcfsl/training/native/binding.py` lays it out.
struct Descent {
    double learning_rate, server_learning_rate, beta1, beta2, epsilon;
    float momentum, weight_decay, proximal, clip_norm;
    int64_t adam;
};

// Clients to train, as `hpcfsl/training/native/binding.py` lays it out. Arrays are row-major.
struct Job {
    const float *start;      // [params], the model; or [clients, params], where `own_starts` says so
    const float *inputs;     // [rows, ...], or null
    const int64_t *tokens;   // [rows, positions], or null
    const int64_t *classes;  // [rows] or [rows, positions], targets; or null
    const float *numbers;    // [rows, outputs], targets; or null
    const int64_t *orders;   // [epochs, clients, longest]: rows of each local epoch, in order
    const int64_t *counts;   // [clients] samples of a client
    const int64_t *clients;  // [clients] ids
    float *updates;          // [clients, params], to be written
    double *losses;          // [epochs, clients], to be written: mean loss of a sample
    const float *drift;      // [clients, params], added to each gradient; or null
    int64_t num_clients, longest, epochs, batch;
    int64_t seed, round, own_starts;
    Descent descent;
};

// One step of clients that share a server half, as `hpcfsl/training/native/binding.py` lays it out. A client has room for
// `width` samples; activations are as torch has them.
struct Step {
    const float *own;          // [clients, own params], what the clients hold: the first of the layout
    const float *server;       // [server params], the rest of it
    const float *inputs;       // [clients * width, ...], or null
    const int64_t *tokens;     // [clients * width, positions], or null
    const int64_t *classes;    // [clients * width, ...], targets; or null
    const float *numbers;      // [clients * width, outputs], targets; or null
    const int64_t *sizes;      // [clients] samples of a client
    const int64_t *places;     // [clients] number of the local step that it takes
    const int64_t *clients;    // [clients] ids
    const int64_t *lies;       // [clients] whether it sends what stands in `smashed` instead of its own; or null
    float *smashed;            // [clients * width, ...], what the server receives: written, or read as said
    float *answers;            // [clients * width, ...], gradients of what it returns: written, or read; or null
    float *gradients;          // [clients, params], to be written; or null
    double *losses;            // [clients], to be written
    int64_t num_clients, width, own_params, seed, round;
    int64_t smash_alone;       // stop at the smashed data
    int64_t server_alone;      // begin with them, on the server half alone; with `answers` they are its loss
};

// One model made ready for training clients.
class Engine {
  public:
    virtual ~Engine() = default;
    // Train the clients of a job; false where memory does not suffice.
    virtual bool train(const Job &job) = 0;
    // Take one step; for an engine that trains no jobs and whose clients share no layers.
    virtual void step(const Step &job) = 0;
    virtual int64_t bytes() const = 0;
    // Seconds spent in each layer's forward and backward pass, in the loss and in the step: [2 * layers + 2].
    virtual int64_t times(double *seconds) = 0;
};

// Kernels over a group's updates (columns.h, noise.h): rows, their stride, how many, and how long.
struct ColumnKernels {
    void (*row_squares)(const float *, long, long, long, double *);
    void (*perturb_rows)(float *, long, long, long, const float *, float, const std::uint32_t *, const long *,
                         std::uint32_t, double *);
    int (*coordinate_median)(const float *, long, long, long, const int *, long, float *);
    int (*geometry)(const float *, long, long, long, const int *, long, double *, double *, double *, double *);
    void (*weighted_sum)(const float *, long, const long *, const double *, long, long, float *);
    void (*fingerprint)(const float *, long, long, long, const std::uint32_t *, std::uint64_t *, double *);
    void (*largest_bits)(const float *, long, long, std::uint32_t *);
    void (*add_fixed)(const float *, double, const double *, long, long, std::int64_t *);
};

// The kernels of one instruction set; `module.cpp` picks the table that the processor can run.
struct Kernels {
    const char *name;
    const ColumnKernels *columns;
    // Return an engine for a program (`program.h` has its format), or null where memory does not suffice.
    Engine *(*make_engine)(const int64_t *program);
    int (*shuffle)(const int64_t *, const int64_t *, long, long, const uint32_t *, uint32_t, uint32_t, int64_t *);
};
