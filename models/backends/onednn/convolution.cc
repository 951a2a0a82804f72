// Convolution and its two gradients by oneDNN, as XLA FFI handlers.
//
// The three are one relation between input x, kernel w and output y, each computed from the others:
//
//   Forward   (x, w) -> y        Data   (y, w) -> x        Weights   (x, y) -> w
//
// Buffers are as JAX has them, with a leading axis S of independent convolutions:
//   x (S, N, spatial..., C), y (S, N, spatial..., O), w (S, spatial..., C / groups, O).
// Shapes are checked in Python; what oneDNN itself refuses comes back as an error of the call.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "calls.h"
#include "dnnl.hpp"
#include "winograd.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using dnnl::memory;
using Dims = memory::dims;

namespace {

enum Pass : int64_t { kForward, kData, kWeights };

// All that a compiled primitive depends on.
struct Shape {
  int64_t pass, bf16, groups;
  Dims x, w, y;  // without S, in JAX's order
  Dims strides, dilations, before, after;

  auto key() const { return std::tie(pass, bf16, groups, x, w, y, strides, dilations, before, after); }
  bool operator<(const Shape& other) const { return key() < other.key(); }
};

// Strides of a dense array, in elements.
Dims Steps(const Dims& dims) {
  Dims steps(dims.size(), 1);
  for (size_t i = dims.size() - 1; i > 0; --i) steps[i - 1] = steps[i] * dims[i];
  return steps;
}

// (N, spatial..., C) as oneDNN names it: N, C, spatial...
memory::desc Activation(const Dims& dims, memory::data_type type) {
  const Dims steps = Steps(dims);
  Dims named{dims.front(), dims.back()}, strides{steps.front(), steps.back()};
  named.insert(named.end(), dims.begin() + 1, dims.end() - 1);
  strides.insert(strides.end(), steps.begin() + 1, steps.end() - 1);
  return {named, type, strides};
}

// (spatial..., C / groups, O) as oneDNN names it: [groups, ] O / groups, C / groups, spatial...
memory::desc Kernel(const Dims& dims, int64_t groups, memory::data_type type) {
  const Dims steps = Steps(dims);
  const size_t rank = dims.size() - 2;
  const int64_t out = dims[rank + 1] / groups;
  Dims named{out, dims[rank]}, strides{1, steps[rank]};
  if (groups > 1) {
    named.insert(named.begin(), groups);
    strides.insert(strides.begin(), out);
  }
  named.insert(named.end(), dims.begin(), dims.begin() + rank);
  strides.insert(strides.end(), steps.begin(), steps.begin() + rank);
  return {named, type, strides};
}

const dnnl::engine& Engine() {
  static const auto* engine = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *engine;
}

size_t Aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Where Winograd's form measured faster than oneDNN's own kernels: below 32 channels
// carrying tiles over costs more than the products save, but for the kernel's gradient; below one
// block of tiles carrying the kernel over does.
std::optional<winograd::Problem> AsWinograd(const Shape& shape) {
  const auto all = [](const Dims& dims, int64_t value) {
    return std::count(dims.begin(), dims.end(), value) == 2;
  };
  if (shape.strides.size() != 2) return std::nullopt;
  const winograd::Maps x{shape.x[0], shape.x[1], shape.x[2], shape.x[3]};
  const winograd::Maps y{shape.y[0], shape.y[1], shape.y[2], shape.y[3]};
  const Dims near(shape.w.begin(), shape.w.end() - 2);
  const bool suits = !shape.bf16 && shape.groups == 1 && all(near, 3) && all(shape.strides, 1) &&
                     all(shape.dilations, 1) &&
                     *std::max_element(shape.before.begin(), shape.before.end()) <= 2 &&
                     (std::min(x.channels, y.channels) >= 32 ||
                      (shape.pass == kWeights && product::Small(x.channels, y.channels)));
  if (!suits) return std::nullopt;
  const auto problem =
      shape.pass == kData ? winograd::Problem{y, x, 2 - shape.before[0], 2 - shape.before[1]}
                          : winograd::Problem{x, y, shape.before[0], shape.before[1]};
  if (problem.tiles() < winograd::kBlock) return std::nullopt;
  return problem;
}

// Whether a tap of the kernel meets padding alone. Its gradient is 0, and oneDNN may not write it.
bool HasIdleTap(const Shape& shape) {
  const size_t rank = shape.strides.size();
  for (size_t axis = 0; axis < rank; ++axis) {
    for (int64_t tap = 0; tap < shape.w[axis]; ++tap) {
      bool met = false;
      for (int64_t out = 0; out < shape.y[axis + 1] && !met; ++out) {
        const int64_t at =
            out * shape.strides[axis] + tap * shape.dilations[axis] - shape.before[axis];
        met = at >= 0 && at < shape.x[axis + 1];
      }
      if (!met) return true;
    }
  }
  return false;
}

// A primitive with the layouts that it wants, and the reorders to and from JAX's; or Winograd's.
struct Plan {
  std::string name;
  std::optional<winograd::Problem> tiles;
  dnnl::primitive compute;
  memory::desc x, w, y, kernel, scratch;  // kernel: as JAX has it
  std::optional<dnnl::reorder> reorder;
  size_t kernel_bytes = 0, bytes = 0;  // bytes: of workspace
  bool clear = false;                  // what is written must be 0 before

  explicit Plan(const Shape& shape) : tiles(AsWinograd(shape)) {
    if (tiles) {
      name = "winograd";
      bytes = winograd::Bytes(*tiles, shape.pass == kWeights, threads);
      return;
    }
    const auto type = shape.bf16 ? memory::data_type::bf16 : memory::data_type::f32;
    x = Activation(shape.x, type), y = Activation(shape.y, type);
    kernel = Kernel(shape.w, shape.groups, type);
    const memory::desc any(kernel.get_dims(), type, memory::format_tag::any);
    Dims dilations = shape.dilations;
    for (auto& dilation : dilations) --dilation;  // oneDNN counts the holes
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);

    const auto algorithm = dnnl::algorithm::convolution_direct;
    const dnnl::convolution_forward::primitive_desc forward(
        Engine(), dnnl::prop_kind::forward_training, algorithm, x, any, y, shape.strides, dilations,
        shape.before, shape.after, attributes);
    if (shape.pass == kForward) {
      Take(forward, forward.weights_desc());
      compute = dnnl::convolution_forward(forward);
    } else if (shape.pass == kData) {
      const dnnl::convolution_backward_data::primitive_desc data(
          Engine(), algorithm, x, any, y, shape.strides, dilations, shape.before, shape.after,
          forward, attributes);
      Take(data, data.weights_desc());
      compute = dnnl::convolution_backward_data(data);
    } else {
      const dnnl::convolution_backward_weights::primitive_desc weights(
          Engine(), algorithm, x, any, y, shape.strides, dilations, shape.before, shape.after,
          forward, attributes);
      Take(weights, weights.diff_weights_desc());
      compute = dnnl::convolution_backward_weights(weights);
      clear = HasIdleTap(shape);
    }
    if (w != kernel) {
      kernel_bytes = Aligned(w.get_size());
      const bool out = shape.pass == kWeights;
      reorder = dnnl::reorder(dnnl::reorder::primitive_desc(Engine(), out ? w : kernel, Engine(),
                                                            out ? kernel : w));
    }
    bytes = kernel_bytes + scratch.get_size();
  }

  template <typename Description>
  void Take(const Description& description, const memory::desc& weights) {
    w = weights;
    scratch = description.scratchpad_desc();
    name = description.impl_info_str();
  }
};

constexpr size_t kPlans = 512;  // a network has fewer

const Plan& FindPlan(const Shape& shape) {
  static auto* plans = new std::map<Shape, Plan>;
  const auto found = plans->find(shape);
  if (found != plans->end()) return found->second;
  if (plans->size() >= kPlans) plans->clear();
  return plans->emplace(shape, shape).first->second;
}

// Shared by all calls, as large as the largest has needed.
char* Workspace(size_t bytes) {
  static auto* buffer = new std::unique_ptr<char, decltype(&std::free)>(nullptr, &std::free);
  static size_t size = 0;
  if (bytes > size) {
    size = (bytes + (2 << 20) - 1) >> 21 << 21;
    buffer->reset(static_cast<char*>(std::aligned_alloc(2 << 20, size)));
    if (!buffer->get()) {
      size = 0;
      throw std::bad_alloc();
    }
  }
  return buffer->get();
}

Dims Tail(ffi::Span<const int64_t> dims) { return Dims(dims.begin() + 1, dims.end()); }
Dims All(ffi::Span<const int64_t> dims) { return Dims(dims.begin(), dims.end()); }

template <Pass pass>
ffi::Error Convolve(ffi::AnyBuffer a, ffi::AnyBuffer b, ffi::Result<ffi::AnyBuffer> out,
                    ffi::Span<const int64_t> strides, ffi::Span<const int64_t> dilations,
                    ffi::Span<const int64_t> before, ffi::Span<const int64_t> after,
                    int64_t groups) {
  const ffi::AnyBuffer& x = pass == kData ? *out : a;
  const ffi::AnyBuffer& w = pass == kWeights ? *out : b;
  const ffi::AnyBuffer& y = pass == kForward ? *out : pass == kData ? a : b;
  const std::lock_guard<std::mutex> lock(mutex);
  try {
    omp_set_num_threads(threads);
    const Shape shape{pass, x.element_type() == ffi::BF16, groups, Tail(x.dimensions()),
                      Tail(w.dimensions()), Tail(y.dimensions()), All(strides), All(dilations),
                      All(before), All(after)};
    const Plan& plan = FindPlan(shape);
    char* workspace = Workspace(plan.bytes);
    static auto* stream = new dnnl::stream(Engine());
    const int64_t count = x.dimensions()[0];
    const auto part = [&](const ffi::AnyBuffer& buffer, int64_t i) {
      return static_cast<char*>(buffer.untyped_data()) + buffer.size_bytes() / count * i;
    };
    if (plan.tiles) {
      for (int64_t i = 0; i < count; ++i) {
        const auto in = [&](const ffi::AnyBuffer& b) { return reinterpret_cast<float*>(part(b, i)); };
        auto* room = reinterpret_cast<float*>(workspace);
        if (pass == kWeights)
          winograd::Weights(*plan.tiles, in(x), in(y), threads, room, in(w));
        else
          winograd::Convolve(*plan.tiles, in(a), in(w), pass == kData, threads, room, in(*out));
      }
      return ffi::Error::Success();
    }
    const memory scratch(plan.scratch, Engine(), workspace + plan.kernel_bytes);
    for (int64_t i = 0; i < count; ++i) {
      const memory outer(plan.kernel, Engine(), part(w, i));
      const memory inner(plan.w, Engine(), plan.reorder ? workspace : part(w, i));
      const memory source(plan.x, Engine(), part(x, i)), target(plan.y, Engine(), part(y, i));
      if (plan.reorder && pass != kWeights)
        plan.reorder->execute(*stream, {{DNNL_ARG_FROM, outer}, {DNNL_ARG_TO, inner}});
      if (plan.clear) {
        std::memset(workspace, 0, plan.bytes);
        std::memset(part(w, i), 0, w.size_bytes() / count);
      }
      plan.compute.execute(
          *stream, {{pass == kData ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, source},
                    {pass == kWeights ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, inner},
                    {pass == kForward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, target},
                    {DNNL_ARG_SCRATCHPAD, scratch}});
      if (plan.reorder && pass == kWeights)
        plan.reorder->execute(*stream, {{DNNL_ARG_FROM, inner}, {DNNL_ARG_TO, outer}});
    }
    return ffi::Error::Success();
  } catch (const std::exception& error) {
    return ffi::Error(ffi::ErrorCode::kInternal, std::string("oneDNN: ") + error.what());
  }
}

auto Signature() {
  return ffi::Ffi::Bind()
      .Arg<ffi::AnyBuffer>()
      .Arg<ffi::AnyBuffer>()
      .Ret<ffi::AnyBuffer>()
      .Attr<ffi::Span<const int64_t>>("strides")
      .Attr<ffi::Span<const int64_t>>("dilations")
      .Attr<ffi::Span<const int64_t>>("before")
      .Attr<ffi::Span<const int64_t>>("after")
      .Attr<int64_t>("groups");
}

}  // namespace

// Name of the implementation that is taken, empty where it has none. `numbers`: spatial rank,
// groups, x, w, y, strides, dilations, padding before and after.
extern "C" const char* Implementation(int64_t pass, int64_t bf16, const int64_t* numbers) {
  static thread_local std::string name;
  const int64_t rank = *numbers++;
  const auto take = [&](int64_t count) {
    numbers += count;
    return Dims(numbers - count, numbers);
  };
  Shape shape;
  shape.pass = pass, shape.bf16 = bf16, shape.groups = *numbers++;
  shape.x = take(rank + 2), shape.w = take(rank + 2), shape.y = take(rank + 2);
  shape.strides = take(rank), shape.dilations = take(rank);
  shape.before = take(rank), shape.after = take(rank);
  try {
    const std::lock_guard<std::mutex> lock(mutex);
    omp_set_num_threads(threads);
    name = FindPlan(shape).name;
  } catch (const std::exception&) {
    name.clear();
  }
  return name.c_str();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(Forward, Convolve<kForward>, Signature());
XLA_FFI_DEFINE_HANDLER_SYMBOL(Data, Convolve<kData>, Signature());
XLA_FFI_DEFINE_HANDLER_SYMBOL(Weights, Convolve<kWeights>, Signature());
