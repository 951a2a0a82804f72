// 3x3 convolutions at stride 1 by Winograd's F(2x2, 3x3): 16 products where the definition has 36.
//
// A tile of 4x4 inputs and one of 2x2 outputs are carried to a domain where the convolution is
// pointwise, so that over all tiles and channels it is 16 matrix products (Lavin & Gray 2015,
// "Fast Algorithms for Convolutional Neural Networks", section 4.1). The gradients are the same
// identity read the other ways: to the input, the convolution by the mirrored kernel; to the
// kernel, the products summed over tiles.

#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

#include "dnnl.h"
#include "product.h"

namespace winograd {

struct Maps {  // (images, height, width, channels), channels last
  int64_t images, height, width, channels;
};

// A convolution from `in` to `out`, with that many zeros above and to the left of the input.
struct Problem {
  Maps in, out;
  int64_t top, left;

  int64_t down() const { return (out.height + 1) / 2; }
  int64_t across() const { return (out.width + 1) / 2; }
  int64_t tiles() const { return out.images * down() * across(); }
};

// Tiles at a time, a multiple of 24: their transforms stay in the second cache.
constexpr int64_t kBlock = 96;

// m[k] = v[k] u[k] of a block's first tiles, for each of the 16 points k.
inline void Multiply(int64_t tiles, int64_t in, int64_t out, const float* v, const float* u,
                     float* m) {
  for (int64_t k = 0; k < 16; ++k) {
    const float *a = v + k * kBlock * in, *b = u + k * in * out;
    float* c = m + k * kBlock * out;
    if (product::Small(in, out))
      product::Rows(tiles, out, in, a, b, c);
    else
      dnnl_sgemm('N', 'N', tiles, out, in, 1.f, a, in, b, out, 0.f, c, out);
  }
}

// sum[k] = v[k]^T z[k] of a block's first tiles, or sum[k] += it.
inline void Accumulate(int64_t tiles, int64_t in, int64_t out, const float* v, const float* z,
                       bool add, float* sum) {
  for (int64_t k = 0; k < 16; ++k) {
    const float *a = v + k * kBlock * in, *b = z + k * kBlock * out;
    float* c = sum + k * in * out;
    if (product::Small(in, out))
      product::Sums(in, out, tiles, a, b, add, c);
    else
      dnnl_sgemm('T', 'N', in, out, tiles, 1.f, a, in, b, out, add ? 1.f : 0.f, c, out);
  }
}

// V[16][block][channels] = B^T d B of the input tiles [first, last).
inline void TransformInput(const Problem& p, const float* x, int64_t first, int64_t last,
                           const float* zeros, float* v) {
  const int64_t channels = p.in.channels, plane = kBlock * channels;
  for (int64_t tile = first; tile < last; ++tile) {
    const int64_t column = tile % p.across(), row = tile / p.across() % p.down();
    const float* image = x + tile / p.across() / p.down() * p.in.height * p.in.width * channels;
    const float* d[16];
    for (int64_t i = 0; i < 16; ++i) {
      const int64_t r = 2 * row - p.top + i / 4, c = 2 * column - p.left + i % 4;
      const bool inside = r >= 0 && r < p.in.height && c >= 0 && c < p.in.width;
      d[i] = inside ? image + (r * p.in.width + c) * channels : zeros;
    }
    float* __restrict out = v + (tile - first) * channels;
#pragma GCC ivdep
    for (int64_t c = 0; c < channels; ++c) {
      float t[16];
      for (int j = 0; j < 4; ++j) {
        t[j] = d[j][c] - d[8 + j][c];
        t[4 + j] = d[4 + j][c] + d[8 + j][c];
        t[8 + j] = d[8 + j][c] - d[4 + j][c];
        t[12 + j] = d[4 + j][c] - d[12 + j][c];
      }
      for (int i = 0; i < 4; ++i) {
        out[(4 * i) * plane + c] = t[4 * i] - t[4 * i + 2];
        out[(4 * i + 1) * plane + c] = t[4 * i + 1] + t[4 * i + 2];
        out[(4 * i + 2) * plane + c] = t[4 * i + 2] - t[4 * i + 1];
        out[(4 * i + 3) * plane + c] = t[4 * i + 1] - t[4 * i + 3];
      }
    }
  }
}

// Where the four values of an output tile lie; `outside` for those beyond the edge.
template <typename T>
inline void OutputTile(const Problem& p, T* y, int64_t tile, T* outside, T* at[4]) {
  const int64_t column = tile % p.across(), row = tile / p.across() % p.down();
  T* image = y + tile / p.across() / p.down() * p.out.height * p.out.width * p.out.channels;
  for (int64_t i = 0; i < 4; ++i) {
    const int64_t r = 2 * row + i / 2, c = 2 * column + i % 2;
    const bool inside = r < p.out.height && c < p.out.width;
    at[i] = inside ? image + (r * p.out.width + c) * p.out.channels : outside;
  }
}

// y = A^T M A of the output tiles [first, last), M[16][block][channels].
inline void TransformOutput(const Problem& p, const float* m, int64_t first, int64_t last,
                            float* sink, float* y) {
  const int64_t channels = p.out.channels, plane = kBlock * channels;
  for (int64_t tile = first; tile < last; ++tile) {
    float* at[4];
    OutputTile(p, y, tile, sink, at);
    const float* in = m + (tile - first) * channels;
    float *__restrict y0 = at[0], *__restrict y1 = at[1], *__restrict y2 = at[2],
          *__restrict y3 = at[3];
#pragma GCC ivdep
    for (int64_t c = 0; c < channels; ++c) {
      float s[8];
      for (int j = 0; j < 4; ++j) {
        const float one = in[(4 + j) * plane + c], two = in[(8 + j) * plane + c];
        s[j] = in[j * plane + c] + one + two;
        s[4 + j] = one - two - in[(12 + j) * plane + c];
      }
      y0[c] = s[0] + s[1] + s[2];
      y1[c] = s[1] - s[2] - s[3];
      y2[c] = s[4] + s[5] + s[6];
      y3[c] = s[5] - s[6] - s[7];
    }
  }
}

// Z[16][block][channels] = A dy A^T, the transpose of TransformOutput.
inline void SpreadOutput(const Problem& p, const float* y, int64_t first, int64_t last,
                         const float* zeros, float* z) {
  const int64_t channels = p.out.channels, plane = kBlock * channels;
  for (int64_t tile = first; tile < last; ++tile) {
    const float* at[4];
    OutputTile(p, y, tile, zeros, at);
    float* __restrict out = z + (tile - first) * channels;
#pragma GCC ivdep
    for (int64_t c = 0; c < channels; ++c) {
      const float s[4][2] = {{at[0][c], at[1][c]},
                             {at[0][c] + at[2][c], at[1][c] + at[3][c]},
                             {at[0][c] - at[2][c], at[1][c] - at[3][c]},
                             {-at[2][c], -at[3][c]}};
      for (int i = 0; i < 4; ++i) {
        out[(4 * i) * plane + c] = s[i][0];
        out[(4 * i + 1) * plane + c] = s[i][0] + s[i][1];
        out[(4 * i + 2) * plane + c] = s[i][0] - s[i][1];
        out[(4 * i + 3) * plane + c] = -s[i][1];
      }
    }
  }
}

// U[16][in][out] = G g G^T of the kernel w (3, 3, in, out); of its mirror image with in and out
// swapped if `mirrored`: then w is (3, 3, out, in).
inline void TransformKernel(const float* w, int64_t in, int64_t out, bool mirrored, int threads,
                            float* u) {
  const int64_t row = mirrored ? 1 : out, column = mirrored ? in : 1;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < in; ++i)
    for (int64_t o = 0; o < out; ++o) {
      float g[9], t[12];
      for (int k = 0; k < 9; ++k)
        g[k] = w[(mirrored ? 8 - k : k) * in * out + i * row + o * column];
      for (int j = 0; j < 3; ++j) {
        t[j] = g[j];
        t[3 + j] = .5f * (g[j] + g[3 + j] + g[6 + j]);
        t[6 + j] = .5f * (g[j] - g[3 + j] + g[6 + j]);
        t[9 + j] = g[6 + j];
      }
      for (int k = 0; k < 4; ++k) {
        const float *s = t + 3 * k, values[4] = {s[0], .5f * (s[0] + s[1] + s[2]),
                                                 .5f * (s[0] - s[1] + s[2]), s[2]};
        for (int j = 0; j < 4; ++j) u[((4 * k + j) * in + i) * out + o] = values[j];
      }
    }
}

// w (3, 3, in, out) = G^T (sum of parts) G, the transpose of TransformKernel.
inline void GatherKernel(const float* u, int64_t parts, int64_t in, int64_t out, int threads,
                         float* w) {
  const int64_t size = in * out;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < in; ++i)
#pragma GCC ivdep
    for (int64_t o = 0; o < out; ++o) {
      float m[16], t[12];
      for (int k = 0; k < 16; ++k) {
        m[k] = 0;
        for (int64_t part = 0; part < parts; ++part) m[k] += u[(part * 16 + k) * size + i * out + o];
      }
      for (int j = 0; j < 4; ++j) {
        t[j] = m[j] + .5f * (m[4 + j] + m[8 + j]);
        t[4 + j] = .5f * (m[4 + j] - m[8 + j]);
        t[8 + j] = m[12 + j] + .5f * (m[4 + j] + m[8 + j]);
      }
      for (int k = 0; k < 3; ++k) {
        const float *s = t + 4 * k, half = .5f * (s[1] + s[2]);
        w[(3 * k) * size + i * out + o] = s[0] + half;
        w[(3 * k + 1) * size + i * out + o] = .5f * (s[1] - s[2]);
        w[(3 * k + 2) * size + i * out + o] = s[3] + half;
      }
    }
}

// Floats of workspace that a thread needs beside U.
inline int64_t Room(const Problem& p) {
  return 16 * kBlock * (p.in.channels + p.out.channels) + p.in.channels + p.out.channels;
}

inline int64_t Bytes(const Problem& p, bool weights, int threads) {
  const int64_t u = 16 * p.in.channels * p.out.channels;
  return 4 * (u * (weights ? threads : 1) + threads * Room(p));
}

// y from x and w; from y's gradient to x's if `mirrored`, `p` being that convolution.
inline void Convolve(const Problem& p, const float* x, const float* w, bool mirrored, int threads,
                     float* workspace, float* y) {
  const int64_t in = p.in.channels, out = p.out.channels, tiles = p.tiles();
  float* u = workspace;
  // As many blocks for each thread, of nearly the same size: few tiles are shared out too.
  const int64_t rounds = (tiles + threads * kBlock - 1) / (threads * kBlock);
  const int64_t share = (tiles + threads * rounds - 1) / (threads * rounds);
  const int64_t block = (share + product::kTall - 1) / product::kTall * product::kTall;
  TransformKernel(w, in, out, mirrored, threads, u);
#pragma omp parallel num_threads(threads)
  {
    float* v = u + 16 * in * out + omp_get_thread_num() * Room(p);
    float *m = v + 16 * kBlock * in, *zeros = m + 16 * kBlock * out, *sink = zeros + in;
    std::fill_n(zeros, in, 0.f);
#pragma omp for schedule(dynamic)
    for (int64_t first = 0; first < tiles; first += block) {
      const int64_t last = std::min(first + block, tiles);
      TransformInput(p, x, first, last, zeros, v);
      Multiply(last - first, in, out, v, u, m);
      TransformOutput(p, m, first, last, sink, y);
    }
  }
}

// w's gradient from x and y's.
inline void Weights(const Problem& p, const float* x, const float* y, int threads,
                    float* workspace, float* w) {
  const int64_t in = p.in.channels, out = p.out.channels, tiles = p.tiles();
  float* u = workspace;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; ++t) {
    float *sum = u + t * 16 * in * out, *v = u + threads * 16 * in * out + t * Room(p);
    float *z = v + 16 * kBlock * in, *zeros = z + 16 * kBlock * out;
    std::fill_n(zeros, in + out, 0.f);
    // A share of each thread's own, in order: the sums, and so their bits, are always the same.
    const int64_t begin = tiles * t / threads, end = tiles * (t + 1) / threads;
    if (begin == end) std::fill_n(sum, 16 * in * out, 0.f);
    for (int64_t first = begin; first < end; first += kBlock) {
      const int64_t last = std::min(first + kBlock, end);
      TransformInput(p, x, first, last, zeros, v);
      SpreadOutput(p, y, first, last, zeros, z);
      Accumulate(last - first, in, out, v, z, first != begin, sum);
    }
  }
  GatherKernel(u, threads, in, out, threads, w);
}

}  // namespace winograd
