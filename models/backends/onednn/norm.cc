// Batch normalisation with addition and ReLU in as few passes over memory as it takes.
//
// Forward reads x twice and writes y once, Backward reads what it needs twice and writes once:
// where a batch outgrows the caches, passes are what it costs. Statistics are Welford's by blocks
// that stay in the first cache (two passes there, merged as in Chan et al. 1983), so that a large
// mean costs no digits. The partition depends on the shape and the number of threads alone: the
// same input gives the same bits.
//
// Buffers have a leading axis S of independent normalisations: x, add, y and their gradients
// (S, rows, C) in float32 or bfloat16; scale, bias, mean, var and theirs (S, C) in float32.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "calls.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

struct BFloat16 {
  uint16_t bits;
};

inline float Wide(float value) { return value; }
inline float Wide(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, 4);
  return wide;
}
inline void Narrow(float value, float* out) { *out = value; }
inline void Narrow(float value, BFloat16* out) {  // to nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  out->bits = value == value ? rounded : 0x7fc0;
}

// Rows are taken several at a time, as one of `width` lanes, so that few channels fill a vector.
struct Lanes {
  int64_t channels, width, total;  // total: elements of the array

  Lanes(int64_t rows, int64_t channels)
      : channels(channels),
        width(std::min(rows, std::max<int64_t>(1, 256 / channels)) * channels),
        total(rows * channels) {}

  // A value for each channel, as one for each lane.
  std::vector<float> Spread(const float* values) const {
    std::vector<float> lanes(width);
    for (int64_t i = 0; i < width; ++i) lanes[i] = values[i % channels];
    return lanes;
  }
};

// The part of [0, count) that is thread `i`'s.
inline std::pair<int64_t, int64_t> Share(int64_t count, int i, int parts) {
  return {count * i / parts, count * (i + 1) / parts};
}

// Of the distances to `shift`, the array's first value of the channel: what is far from 0 loses no
// digits where it is near to that.
struct Moments {
  std::vector<float> mean, squares, sum;  // a lane each; squares: of the distance to the mean
  int64_t count = 0;                      // values in each lane

  explicit Moments(int64_t width) : mean(width), squares(width), sum(width) {}

  template <typename T>
  void Add(const T* __restrict x, const float* __restrict shift, int64_t rows, int64_t width) {
    float* __restrict s = sum.data();
    float* __restrict m = mean.data();
    float* __restrict q = squares.data();
    std::fill_n(s, width, 0.f);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < width; ++i) s[i] += Wide(x[r * width + i]) - shift[i];
    const float share = 1.f / rows, weight = static_cast<float>(rows) / (count + rows);
    const float between = weight * count;
    for (int64_t i = 0; i < width; ++i) {
      s[i] *= share;
      const float delta = s[i] - m[i];
      m[i] += delta * weight;
      q[i] += delta * delta * between;
    }
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < width; ++i) {
        const float delta = Wide(x[r * width + i]) - shift[i] - s[i];
        q[i] += delta * delta;
      }
    count += rows;
  }
};

constexpr int64_t kBlock = 4096;  // elements: half of the first cache

template <typename T>
void Statistics(const T* x, const Lanes& lanes, float* mean, float* var) {
  const int64_t width = lanes.width, rows = lanes.total / width;
  std::vector<float> first(lanes.channels);
  for (int64_t c = 0; c < lanes.channels; ++c) first[c] = Wide(x[c]);
  const auto shift = lanes.Spread(first.data());
  std::vector<Moments> parts(threads + 1, Moments(width));
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; ++t) {
    auto [row, end] = Share(rows, t, threads);
    const int64_t block = std::max<int64_t>(1, kBlock / width);
    for (; row < end; row += block)
      parts[t].Add(x + row * width, shift.data(), std::min(block, end - row), width);
  }
  // What is left is less than a row of lanes.
  const int64_t left = lanes.total - rows * width;
  if (left) parts[threads].Add(x + rows * width, shift.data(), 1, left);
  for (int64_t c = 0; c < lanes.channels; ++c) {
    double m = 0, q = 0, n = 0;
    for (int t = 0; t <= threads; ++t)
      for (int64_t i = c; i < (t < threads ? width : left); i += lanes.channels) {
        const double count = parts[t].count;
        if (count == 0) continue;
        const double delta = parts[t].mean[i] - m;
        m += delta * count / (n + count);
        q += parts[t].squares[i] + delta * delta * n * count / (n + count);
        n += count;
      }
    mean[c] = first[c] + m;
    var[c] = q / n;
  }
}

// One function of the elements, with the lane that each is in.
template <typename F>
void ForEach(const Lanes& lanes, F function) {
  const int64_t width = lanes.width, rows = (lanes.total + width - 1) / width;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; ++t) {
    auto [row, end] = Share(rows, t, threads);
    for (; row < end; ++row) {
      const int64_t at = row * width, size = std::min(width, lanes.total - at);
#pragma GCC ivdep
      for (int64_t i = 0; i < size; ++i) function(at + i, i);
    }
  }
}

// 1 / sqrt(var + epsilon) and its product with scale: Forward's and Backward's are the same bits, so
// that both find a value on the same side of ReLU's corner.
void Factors(const float* var, const float* scale, int64_t channels, float epsilon, float* rstd,
             float* factor) {
  for (int64_t c = 0; c < channels; ++c) {
    rstd[c] = 1 / std::sqrt(var[c] + epsilon);
    factor[c] = rstd[c] * scale[c];
  }
}

template <typename T, bool relu, bool adds>
void Normalise(const T* __restrict x, const T* __restrict add, const Lanes& lanes,
               const float* means, const float* factors, const float* biases, T* __restrict y) {
  const auto mean = lanes.Spread(means), factor = lanes.Spread(factors), bias = lanes.Spread(biases);
  const float *m = mean.data(), *f = factor.data(), *b = bias.data();
  ForEach(lanes, [=](int64_t at, int64_t i) {
    float value = (Wide(x[at]) - m[i]) * f[i] + b[i];
    if (adds) value += Wide(add[at]);
    if (relu) value = value < 0 ? 0 : value;
    Narrow(value, &y[at]);
  });
}

// The gradient of y behind its ReLU, where it is not 0 by the value `y` or by one made from x.
template <typename T, bool relu, bool adds>
void Differentiate(const T* __restrict dy, const T* __restrict x, const T* __restrict y,
                   const Lanes& lanes, const float* means, const float* rstds,
                   const float* factors, const float* biases, T* __restrict dx,
                   T* __restrict dadd, float* dscale, float* dbias) {
  const int64_t width = lanes.width, rows = (lanes.total + width - 1) / width;
  const auto mean = lanes.Spread(means), factor = lanes.Spread(factors),
             bias = lanes.Spread(biases);
  const float *__restrict m = mean.data(), *__restrict f = factor.data(),
              *__restrict b = bias.data();
  std::vector<double> sums(2 * width * threads);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; ++t) {
    auto [row, end] = Share(rows, t, threads);
    const int64_t block = std::max<int64_t>(1, 4 * kBlock / width);
    std::vector<float> one(width), two(width);
    float *__restrict g0 = one.data(), *__restrict g1 = two.data();
    double* total = &sums[2 * width * t];
    while (row < end) {
      std::fill_n(g0, width, 0.f);
      std::fill_n(g1, width, 0.f);
      for (const int64_t stop = std::min(end, row + block); row < stop; ++row) {
        const int64_t at = row * width, size = std::min(width, lanes.total - at);
#pragma GCC ivdep
        for (int64_t i = 0; i < size; ++i) {
          const float centred = Wide(x[at + i]) - m[i];
          float g = Wide(dy[at + i]);
          if (relu) g = (adds ? Wide(y[at + i]) : centred * f[i] + b[i]) > 0 ? g : 0;
          if (adds) Narrow(g, &dadd[at + i]);
          g0[i] += g;
          g1[i] += g * centred;
        }
      }
      for (int64_t i = 0; i < width; ++i) total[i] += g0[i], total[width + i] += g1[i];
    }
  }
  std::vector<float> first(lanes.channels), second(lanes.channels);
  const double count = lanes.total / lanes.channels;
  for (int64_t c = 0; c < lanes.channels; ++c) {
    double s0 = 0, s1 = 0;
    for (int t = 0; t < threads; ++t)
      for (int64_t i = c; i < width; i += lanes.channels)
        s0 += sums[2 * width * t + i], s1 += sums[2 * width * t + width + i];
    dbias[c] = s0;
    dscale[c] = s1 * rstds[c];
    first[c] = s0 / count;
    second[c] = s1 / count * rstds[c] * rstds[c];
  }
  const auto s0 = lanes.Spread(first.data()), s1 = lanes.Spread(second.data());
  const float *__restrict k0 = s0.data(), *__restrict k1 = s1.data();
  ForEach(lanes, [=](int64_t at, int64_t i) {
    const float centred = Wide(x[at]) - m[i];
    float g = Wide(adds ? dadd[at] : dy[at]);
    if (relu && !adds) g = centred * f[i] + b[i] > 0 ? g : 0;
    Narrow(f[i] * (g - k0[i] - centred * k1[i]), &dx[at]);
  });
}

// Calls `f` with the type of the elements and with each flag, as constants of the compiler.
template <typename F>
void Specialise(ffi::DataType type, bool relu, bool adds, F f) {
  const auto flags = [&](auto element) {
    if (relu && adds) return f(element, std::true_type(), std::true_type());
    if (relu) return f(element, std::true_type(), std::false_type());
    if (adds) return f(element, std::false_type(), std::true_type());
    return f(element, std::false_type(), std::false_type());
  };
  if (type == ffi::BF16) flags(BFloat16()); else flags(float());
}

using Vectors = ffi::Buffer<ffi::F32>;

template <typename T>
T* At(ffi::AnyBuffer buffer, int64_t element) {
  return static_cast<T*>(buffer.untyped_data()) + element;
}

ffi::Error Forward(ffi::AnyBuffer x, Vectors scale, Vectors bias, ffi::AnyBuffer add,
                   ffi::Result<ffi::AnyBuffer> y, ffi::Result<Vectors> mean,
                   ffi::Result<Vectors> var, float epsilon, bool relu, bool adds) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto dims = x.dimensions();
  const Lanes lanes(dims[1], dims[2]);
  std::vector<float> rstd(dims[2]), factor(dims[2]);
  Specialise(x.element_type(), relu, adds, [&](auto element, auto relu, auto adds) {
    using T = decltype(element);
    for (int64_t s = 0; s < dims[0]; ++s) {
      const int64_t at = s * lanes.total, c = s * dims[2];
      float *m = mean->typed_data() + c, *v = var->typed_data() + c;
      Statistics(At<T>(x, at), lanes, m, v);
      Factors(v, scale.typed_data() + c, dims[2], epsilon, rstd.data(), factor.data());
      Normalise<T, relu.value, adds.value>(At<T>(x, at), At<T>(add, at), lanes, m, factor.data(),
                                           bias.typed_data() + c, At<T>(*y, at));
    }
  });
  return ffi::Error::Success();
}

// dadd is written where something was added; else it is a buffer of no use.
ffi::Error Backward(ffi::AnyBuffer dy, ffi::AnyBuffer x, ffi::AnyBuffer y, Vectors scale,
                    Vectors bias, Vectors mean, Vectors var, ffi::Result<ffi::AnyBuffer> dx,
                    ffi::Result<Vectors> dscale, ffi::Result<Vectors> dbias,
                    ffi::Result<ffi::AnyBuffer> dadd, float epsilon, bool relu, bool adds) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto dims = x.dimensions();
  const Lanes lanes(dims[1], dims[2]);
  std::vector<float> rstd(dims[2]), factor(dims[2]);
  Specialise(x.element_type(), relu, adds, [&](auto element, auto relu, auto adds) {
    using T = decltype(element);
    for (int64_t s = 0; s < dims[0]; ++s) {
      const int64_t at = s * lanes.total, c = s * dims[2];
      Factors(var.typed_data() + c, scale.typed_data() + c, dims[2], epsilon, rstd.data(),
              factor.data());
      Differentiate<T, relu.value, adds.value>(
          At<T>(dy, at), At<T>(x, at), At<T>(y, at), lanes, mean.typed_data() + c, rstd.data(),
          factor.data(), bias.typed_data() + c, At<T>(*dx, at),
          At<T>(*dadd, adds.value ? at : 0), dscale->typed_data() + c, dbias->typed_data() + c);
    }
  });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(NormForward, Forward,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<float>("epsilon")
                                  .Attr<bool>("relu")
                                  .Attr<bool>("adds"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(NormBackward, Backward,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<float>("epsilon")
                                  .Attr<bool>("relu")
                                  .Attr<bool>("adds"));
