// All kernels, for the instruction set that the including file chose.
#pragma once

#include "vector.h"

namespace ISA {
extern const Kernels kernels;
const Kernels kernels = {
    /*name=*/KERNELS_NAME(ISA),
    /*lanes=*/kLanes,
};
}  // namespace ISA
