"""Which rule is whose: what the results of each primitive depend on."""

from collections.abc import Callable

from models.inspect.reach import moves, sums
from models.inspect.reach.equation import Equation, Reaches
from models.inspect.reach.interval import Reach

# fmt: off
ELEMENTWISE = (
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh",
    "bitcast_convert_type", "cbrt", "ceil", "clamp", "clz", "convert_element_type", "copy",
    "copy_p", "cos", "cosh", "digamma", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2",
    "expm1", "floor", "ge", "gt", "imag", "integer_pow", "is_finite", "le", "lgamma", "log",
    "log1p", "logistic", "lt", "max", "min", "mul", "name", "ne", "neg", "nextafter", "not",
    "or", "population_count", "pow", "real", "reduce_precision", "rem", "round", "rsqrt",
    "select_n", "sharding_constraint", "shift_left", "shift_right_arithmetic",
    "shift_right_logical", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub",
    "tan", "tanh", "xor",
)
# fmt: on
REDUCE = ("sum", "max", "min", "prod", "and", "or", "xor")
WINDOW = ("reduce_window", *(f"reduce_window_{of}" for of in ("sum", "max", "min")))
UPDATE = ("scatter", *(f"scatter-{of}" for of in ("add", "sub", "mul", "min", "max")))

Rule = Callable[[Equation, Reaches], "Reach | list[Reach | None] | None"]
RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, sums.elementwise),
    **dict.fromkeys((f"reduce_{of}" for of in REDUCE), sums.reduced),
    **dict.fromkeys(("argmax", "argmin"), sums.reduced),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), sums.cumulative),
    **dict.fromkeys(WINDOW, sums.window),
    **dict.fromkeys(("sort", "top_k"), sums.along_last),
    **dict.fromkeys(UPDATE, moves.scatter),
    **dict.fromkeys(("optimization_barrier", "device_put"), moves.each),
    **dict.fromkeys(("convolution_forward", "convolution_data"), sums.ours),
    "batch_norm_forward": sums.batch_statistics,
    "broadcast_in_dim": moves.broadcast,
    "concatenate": moves.concatenate,
    "conv_general_dilated": sums.convolution,
    "dot_general": sums.product,
    "dynamic_slice": moves.dynamic_slice,
    "dynamic_update_slice": moves.dynamic_update,
    "gather": moves.gather,
    "pad": moves.pad,
    "reshape": moves.reshape,
    "rev": moves.reverse,
    "slice": moves.slice_,
    "split": moves.split,
    "squeeze": moves.squeeze,
    "stack": moves.stack,
    "tile": moves.tile,
    "transpose": moves.transpose,
    "unstack": moves.unstack,
}
