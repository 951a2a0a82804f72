// What every call shares.

#pragma once

#include <omp.h>

#include <mutex>

// One call at a time: each uses all threads, and XLA may come from several of its own.
inline std::mutex mutex;
// OMP_NUM_THREADS, or the cores that the process may use.
inline const int threads = omp_get_max_threads();
