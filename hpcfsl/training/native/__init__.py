"""The `native` executor: clients train in compiled kernels, each with its weights and activations in the core's cache.

Choose it on a CPU. `program` translates a model's layers into numbers for the engine of `hpcfsl/native/src/engine.h`,
`binding` hands a group's data over, `executor` is what the rest of the program sees.
"""
