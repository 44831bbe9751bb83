"""Dense products for layers that fire so much that adding rows does not pay; the sums are the same.

They run in ONNX Runtime (extra `onnx`): int8 weights times uint8 levels in integers, which uses VNNI and AMX where
they are, or fp32. Not in NumPy's BLAS, whose idle threads spin for milliseconds on the cores the next layers need.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from spikeclip.errors import missing_extra


def has_dense_products() -> bool:
    """Whether ONNX Runtime and the package that describes a product to it are installed."""
    return find_spec("onnx") is not None and find_spec("onnxruntime") is not None


Product = tuple[np.dtype, Callable[[np.ndarray], np.ndarray]]
"""The type of levels that a product takes, and the product (R, K) -> (R, N)."""


def dense_product(weight_KN: np.ndarray, threads: int) -> Product:
    """Return the product by `weight_KN`, int8 or float32. Raises `InputError` without the extra `onnx`."""
    if not has_dense_products():
        raise missing_extra("onnx and onnxruntime", "onnx")
    import onnx
    import onnxruntime

    K, N = weight_KN.shape
    integer = weight_KN.dtype == np.int8
    types = onnx.TensorProto
    node = onnx.helper.make_node("MatMulInteger" if integer else "MatMul", ["levels", "weight"], ["sums"])
    level = onnx.helper.make_tensor_value_info("levels", types.UINT8 if integer else types.FLOAT, ["rows", K])
    sums = onnx.helper.make_tensor_value_info("sums", types.INT32 if integer else types.FLOAT, ["rows", N])
    weight = onnx.numpy_helper.from_array(weight_KN, "weight")
    graph = onnx.helper.make_graph([node], "product", [level], [sums], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Its idle threads would otherwise spin on the cores that the engine's own kernels need next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    dtype = np.dtype(np.uint8 if integer else np.float32)
    return dtype, lambda level_RK: np.asarray(session.run(None, {"levels": level_RK})[0])
