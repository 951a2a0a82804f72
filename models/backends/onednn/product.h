// Products of small matrices that lie in the first caches: nothing is packed, nothing is called.

#pragma once

#include <cstdint>

namespace product {

#ifdef __AVX512F__
constexpr int64_t kLanes = 16, kTall = 12;
#else
constexpr int64_t kLanes = 8, kTall = 6;
#endif

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));

// c = a b of `rows` rows and `vectors` vectors of columns, or c += a b: as many sums as there are
// registers for. Element (i, l) of a is a[i * row + l * step]; b and c lie row by row.
template <int64_t rows, int64_t vectors>
inline void Tile(int64_t k, const float* a, int64_t row, int64_t step, const float* b, int64_t ldb,
                 bool add, float* c, int64_t ldc) {
  Vector sum[rows][vectors];
#pragma GCC unroll 32
  for (int64_t i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int64_t j = 0; j < vectors; ++j)
      sum[i][j] = add ? *reinterpret_cast<const Vector*>(c + i * ldc + j * kLanes) : Vector{};
  for (int64_t l = 0; l < k; ++l) {
    Vector right[vectors];
#pragma GCC unroll 2
    for (int64_t j = 0; j < vectors; ++j)
      right[j] = *reinterpret_cast<const Vector*>(b + l * ldb + j * kLanes);
#pragma GCC unroll 32
    for (int64_t i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int64_t j = 0; j < vectors; ++j) sum[i][j] += a[i * row + l * step] * right[j];
  }
#pragma GCC unroll 32
  for (int64_t i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int64_t j = 0; j < vectors; ++j)
      *reinterpret_cast<Vector*>(c + i * ldc + j * kLanes) = sum[i][j];
}

template <int64_t rows, int64_t vectors>
inline void Tiles(int64_t m, int64_t n, int64_t k, const float* a, int64_t row, int64_t step,
                  const float* b, int64_t ldb, bool add, float* c, int64_t ldc) {
  for (int64_t j = 0; j < n; j += vectors * kLanes)
    for (int64_t i = 0; i < m; i += rows)
      Tile<rows, vectors>(k, a + i * row, row, step, b + j, ldb, add, c + i * ldc + j, ldc);
}

// Whether the two products below take it: past this size a library's packing pays.
inline bool Small(int64_t in, int64_t out) {
  return in % 16 == 0 && out % 16 == 0 && in * out <= 128 * 128;
}

// c (m, out) = a (m, in) b (in, out). Rows up to the next multiple of 24 are read and written.
inline void Rows(int64_t m, int64_t out, int64_t in, const float* a, const float* b, float* c) {
  if (out % (2 * kLanes) == 0) {
    Tiles<kTall, 2>((m + kTall - 1) / kTall * kTall, out, in, a, in, 1, b, out, false, c, out);
  } else {
    constexpr int64_t tall = 2 * kTall;
    Tiles<tall, 1>((m + tall - 1) / tall * tall, out, in, a, in, 1, b, out, false, c, out);
  }
}

// c (in, out) = a^T b of a (m, in) and b (m, out), or c += it.
inline void Sums(int64_t in, int64_t out, int64_t m, const float* a, const float* b, bool add,
                 float* c) {
  if (out % (2 * kLanes) == 0) {
    Tiles<kLanes / 2, 2>(in, out, m, a, 1, in, b, out, add, c, out);
  } else {
    Tiles<kLanes, 1>(in, out, m, a, 1, in, b, out, add, c, out);
  }
}

}  // namespace product
