"""Machine code of the hot path: numba on the CPU, Triton on the GPU. `gnn.sparse` decides which runs."""
