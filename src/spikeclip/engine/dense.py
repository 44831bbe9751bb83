"""Dense products for layers that fire so much that adding rows does not pay; the sums are the same.

With ONNX Runtime (extra `onnx`) int8 weights times uint8 levels in integers, which uses VNNI and AMX where they are;
without it, or in fp32, NumPy's BLAS. Integer sums below 2^24 are exact in float32 too.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np


def has_integer_product() -> bool:
    """Whether ONNX Runtime and the package that describes a product to it are installed."""
    return find_spec("onnx") is not None and find_spec("onnxruntime") is not None


Product = tuple[np.dtype, Callable[[np.ndarray], np.ndarray]]
"""The type of levels that a product takes, and the product (R, K) -> (R, N)."""


def dense_product(weight_KN: np.ndarray, threads: int) -> Product:
    """Return the product by `weight_KN`."""
    if weight_KN.dtype != np.int8 or not has_integer_product():
        weight_KN = weight_KN.astype(np.float32)
        return np.dtype(np.float32), lambda level_RK: level_RK @ weight_KN
    return np.dtype(np.uint8), _integer_product(weight_KN, threads)


def _integer_product(weight_KN: np.ndarray, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    import onnx
    import onnxruntime

    K, N = weight_KN.shape
    node = onnx.helper.make_node("MatMulInteger", ["levels", "weight"], ["sums"])
    level = onnx.helper.make_tensor_value_info("levels", onnx.TensorProto.UINT8, ["rows", K])
    sums = onnx.helper.make_tensor_value_info("sums", onnx.TensorProto.INT32, ["rows", N])
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
    return lambda level_RK: np.asarray(session.run(None, {"levels": level_RK})[0])
