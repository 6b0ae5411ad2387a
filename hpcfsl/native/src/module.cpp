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
EXPORT long hpcfsl_lanes() { return chosen->lanes; }

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

PyMODINIT_FUNC PyInit__kernels(void) { return PyModule_Create(&definition); }
