"""Triton kernels without a GPU: interpreted to compare their results, compiled to see that they are valid."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from spikeclip.neurons import functional

needs_triton = pytest.mark.skipif(
    not functional._HAS_TRITON, reason="Triton is not installed (it is for Linux on x86-64)"
)
LIF = {"V_THRESHOLD": 1.0, "V_RESET": None, "DETACH_RESET": False, "SURROGATE": "sigmoid", "ALPHA": 4.0}
ILIF = {"D": 4, "DECAY": 0.5, "DETACH_RESET": False}

OPTIONAL = {
    *("v_ptr", "v_end_ptr", "grad_v_ptr", "grad_v_start_ptr", "grad_rate_ptr"),
    *("r_ptr", "r_end_ptr", "grad_r_ptr", "grad_r_start_ptr", "grad_gain_ptr"),
}


@needs_triton
def test_the_kernels_do_what_the_pytorch_functions_do():
    # In a process of its own: Triton chooses the interpreter when it is imported.
    cases = Path(__file__).with_name("test_kernels.py")
    interpret = "0" if torch.cuda.is_available() else "1"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cases],
        env={**os.environ, "TRITON_INTERPRET": interpret, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_triton
@pytest.mark.parametrize(("given", "T"), [(True, 4), (False, 16), (False, 32)])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("lif_forward", {**LIF, "V_RESET": v_reset}) for v_reset in (None, -0.5)),
        *(("lif_backward", {**LIF, "SURROGATE": name}) for name in sorted(functional.SURROGATES)),
        ("lif_backward", {**LIF, "V_RESET": 0.0, "DETACH_RESET": True}),
        ("ilif_forward", ILIF),
        ("ilif_backward", ILIF),
        ("ilif_backward", {**ILIF, "DETACH_RESET": True}),
    ],
)
def test_the_kernels_compile_for_a_gpu(name, options, given, T):
    """The interpreter takes more than the compiler, and a compiler needs no GPU."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from spikeclip.neurons import triton
    from spikeclip.neurons import triton_kernels as kernels

    kernel = getattr(kernels, name)
    held, block = triton.held_steps(T)
    chosen = {**options, "BLOCK": block, "HELD": held, "LEARNED": given}
    if "backward" in name:
        chosen["T"] = T
    constants = {key: value for key, value in chosen.items() if key in kernel.arg_names}
    if not given:
        constants |= dict.fromkeys(OPTIONAL & set(kernel.arg_names))
    currents = {"x_ptr", "s_ptr", "grad_x_ptr", "grad_s_ptr"}

    def type_of(argument: str) -> str:
        if argument in constants:
            return "constexpr"
        if argument in ("rate_ptr", "gain_ptr") and not given:
            return "fp32"
        if argument.endswith("_ptr"):
            return "*bf16" if argument in currents else "*fp32"
        return "i32"

    source = ASTSource(
        kernel,
        {argument: type_of(argument) for argument in kernel.arg_names},
        {(kernel.arg_names.index(argument),): value for argument, value in constants.items()},
    )
    made = compile(source, target=GPUTarget("cuda", 80, 32), options={"enable_fp_fusion": False})
    # The one fused product is I-LIF's, which PyTorch fuses too.
    assert ("fma.rn.f32" in made.asm["ptx"]) == (name in ("ilif_forward", "ilif_backward"))


@needs_triton
def test_currents_on_cuda_take_the_kernels():
    with FakeTensorMode():
        x_TX = torch.empty(2, 3, device="cuda")
        assert functional._kernels(x_TX).__name__ == "spikeclip.neurons.triton"
        assert functional._kernels(x_TX.double()) is None  # its membranes are fp64


def test_the_cpu_does_not_load_triton():
    code = (
        "import sys, torch; from spikeclip.neurons import LIF; x = torch.ones(2, 3, requires_grad=True);"
        "LIF()(x).sum().backward(); print('triton' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
