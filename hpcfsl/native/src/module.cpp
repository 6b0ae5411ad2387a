// The extension module: exports the kernels of the best instruction set that the processor has.
//
// Python loads this file twice: as a module, which finds it and holds nothing, and with ctypes, which calls the
// functions below (`hpcfsl/native/library.py` declares them).
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include "standard.h"

namespace isa_base { extern const Kernels kernels; }
#if defined(__x86_64__)
namespace isa_avx2 { extern const Kernels kernels; }
namespace isa_avx512 { extern const Kernels kernels; }
#endif

namespace {

const Kernels *find_best() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw"))
        return &isa_avx512::kernels;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &isa_avx2::kernels;
#endif
    return &isa_base::kernels;
}

const Kernels *chosen = find_best();

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_kernels", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT const char *hpcfsl_isa() { return chosen->name; }

// Use the kernels of the named instruction set from now on; return 0 where this processor cannot run them.
EXPORT int hpcfsl_use_isa(const char *name) {
    const Kernels *best = find_best();
#if defined(__x86_64__)
    const Kernels *known[] = {&isa_base::kernels, &isa_avx2::kernels, &isa_avx512::kernels};
#else
    const Kernels *known[] = {&isa_base::kernels};
#endif
    for (const Kernels *one : known) {
        if (std::strcmp(one->name, name) == 0) {
            chosen = one;
            return 1;
        }
        if (one == best) return 0;  // those that follow need more than this processor has
    }
    return 0;
}

EXPORT void *hpcfsl_engine_make(const int64_t *program) { return chosen->make_engine(program); }
EXPORT int hpcfsl_engine_train(void *engine, const Job *job) { return static_cast<Engine *>(engine)->train(*job); }
EXPORT void hpcfsl_engine_step(void *engine, const Step *job) { static_cast<Engine *>(engine)->step(*job); }
EXPORT int64_t hpcfsl_engine_bytes(void *engine) { return static_cast<Engine *>(engine)->bytes(); }
EXPORT int64_t hpcfsl_engine_times(void *engine, double *seconds) { return static_cast<Engine *>(engine)->times(seconds); }
EXPORT void hpcfsl_engine_free(void *engine) { delete static_cast<Engine *>(engine); }

EXPORT int hpcfsl_shuffle(const int64_t *counts, const int64_t *clients, long num_clients, long longest,
                          const uint32_t *key, uint32_t round, uint32_t lane, int64_t *orders) {
    return chosen->shuffle(counts, clients, num_clients, longest, key, round, lane, orders);
}

// Functions over a group's updates: see columns.h and noise.h.
EXPORT void hpcfsl_row_squares(const float *rows, long stride, long count, long size, double *squares) {
    chosen->columns->row_squares(rows, stride, count, size, squares);
}
EXPORT void hpcfsl_perturb_rows(float *rows, long stride, long count, long size, const float *factors, float deviation,
                                const std::uint32_t *key, const long *entities, std::uint32_t round, double *squares) {
    chosen->columns->perturb_rows(rows, stride, count, size, factors, deviation, key, entities, round, squares);
}
EXPORT int hpcfsl_coordinate_median(const float *rows, long stride, long count, long size, const int *network,
                                    long length, float *median) {
    return chosen->columns->coordinate_median(rows, stride, count, size, network, length, median);
}
EXPORT int hpcfsl_geometry(const float *rows, long stride, long count, long size, const int *network, long length,
                           double *products, double *squares, double *gram, double *center_square) {
    return chosen->columns->geometry(rows, stride, count, size, network, length, products, squares, gram,
                                     center_square);
}
EXPORT void hpcfsl_weighted_sum(const float *rows, long stride, const long *picked, const double *factors, long count,
                                long size, float *sum) {
    chosen->columns->weighted_sum(rows, stride, picked, factors, count, size, sum);
}
EXPORT void hpcfsl_fingerprint(const float *rows, long stride, long count, long size, const std::uint32_t *signs,
                               std::uint64_t *hashes, double *sketches) {
    chosen->columns->fingerprint(rows, stride, count, size, signs, hashes, sketches);
}
EXPORT void hpcfsl_largest_bits(const float *row, long size, long run, std::uint32_t *largest) {
    chosen->columns->largest_bits(row, size, run, largest);
}
EXPORT void hpcfsl_add_fixed(const float *row, double factor, const double *scales, long size, long run,
                             std::int64_t *sums) {
    chosen->columns->add_fixed(row, factor, scales, size, run, sums);
}

PyMODINIT_FUNC PyInit__kernels(void) { return PyModule_Create(&definition); }
