"""Local training of a group's clients through the split model, and what each protocol sends over the wire.

Layer 2: one process, no MPI, no files. `executors` chooses how clients train: `native` (compiled kernels), `stacked`
(one batched computation for a chunk) or `one_by_one`; all follow `batches`, `dropout`, `loss` and `optimisers`.
`protocols` say which parts of the model move where; `reference` is the slow, obvious version that tests hold the
executors equal to.
"""
