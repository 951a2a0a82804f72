"""The network of this folder, in any program: needs jax, numpy and flatbuffers, nothing else.

predict = load("folder")             this file may be copied; by default its own folder
predict({"image": images})           keys, shapes and classes: export.json
"""

import json
from pathlib import Path

import jax
import numpy as np
from jax import export


def weights(file):
    """Name -> array, of a safetensors file: the size of a header, the header, the numbers."""
    data = Path(file).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    names = {"BF16": "bfloat16", "F": "float", "I": "int", "U": "uint"}
    found = {}
    for name, one in json.loads(data[8:start]).items():
        if name != "__metadata__":
            kind = names.get(one["dtype"]) or names[one["dtype"][0]] + one["dtype"][1:]
            first, end = (start + at for at in one["data_offsets"])
            found[name] = np.frombuffer(data[first:end], jax.numpy.dtype(kind)).reshape(
                one["shape"]
            )
    return found


def load(folder=Path(__file__).parent):
    """batch -> predictions: a function that is compiled once for each number of examples."""
    program = export.deserialize(bytearray((Path(folder) / "model.stablehlo").read_bytes()))
    held = jax.device_put(weights(Path(folder) / "weights.safetensors"))
    keys = json.loads((Path(folder) / "export.json").read_text(encoding="utf-8"))["inputs"]
    call = jax.jit(program.call)
    return lambda batch: call(held, {key: batch[key] for key in keys})
