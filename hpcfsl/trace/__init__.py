"""What a run writes down, and how it is read back: numpy and HDF5 only, so that a laptop without torch or MPI can read.

Layer 3. `schema` is the one table of what is recorded; `writer` and `checkpoint` write it, `reader` reads it, and
`digest`, `compare`, `inspect` and `table` are built on the reader. The crash rule of the whole folder is in
`checkpoint`.
"""
