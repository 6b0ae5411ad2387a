// All kernels, for the instruction set that the including file chose.
#pragma once

#include "engine.h"
#include "noise.h"
#include "orders.h"

namespace ISA {
extern const Kernels kernels;
const Kernels kernels = {
    /*name=*/KERNELS_NAME(ISA),
    /*columns=*/&columns::kernels,
    /*make_engine=*/make_engine,
    /*shuffle=*/shuffle,
};
}  // namespace ISA
