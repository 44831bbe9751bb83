"""Import of checkpoints saved by the published code."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from spikeclip.config import ImageConfig, NeuronConfig, TextConfig
from spikeclip.errors import InputError, first_line
from spikeclip.files import check_readable
from spikeclip.towers.image import Spikingformer
from spikeclip.towers.text import TextMLP
from spikeclip.towers.weights import load_state

_BLOCK = {
    "attn.q_conv": "attention.q.linear",
    "attn.k_conv": "attention.k.linear",
    "attn.v_conv": "attention.v.linear",
    "attn.proj_conv": "attention.proj.linear",
    "attn.q_bn": "attention.q.bn",
    "attn.k_bn": "attention.k.bn",
    "attn.v_bn": "attention.v.bn",
    "attn.proj_bn": "attention.proj.bn",
    "mlp.mlp1_conv": "mlp.fc1.linear",
    "mlp.mlp1_bn": "mlp.fc1.bn",
    "mlp.mlp2_conv": "mlp.fc2.linear",
    "mlp.mlp2_bn": "mlp.fc2.bn",
}


def load_published(path: str | Path, num_heads: int = 8) -> Spikingformer | TextMLP:
    """Load an image or text tower saved under the published names.

    path: safetensors, or a `torch.save` file (opened with weights_only) with or without a `state_dict` key; names
    may carry a `weights.` or `module.` prefix. Which tower it is, and every size except the number of attention
    heads, is read from the tensors. Returns the tower in eval mode. Raises `InputError`.
    """
    state = _read(Path(path))
    if "patch_embed.block0_conv.weight" in state:
        make, name = _image, _image_name
    elif "fc1.weight" in state:
        make, name = _text, _text_name
    else:
        raise InputError(f"{path} holds neither a published image tower nor a published text tower")
    try:
        renamed = {name(k): _matrix(k, v) for k, v in state.items() if "num_batches" not in k}
        return load_state(partial(make, state, num_heads), renamed, "the tower").eval()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (IndexError, ZeroDivisionError, ValueError) as error:
        raise InputError(f"{path}: its tensors do not have the shapes of a published tower") from error


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    check_readable(path)
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path} cannot be read as weights: {first_line(error)}") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise InputError(f"{path} holds no state dict")
    for name, value in state.items():  # a sparse or repeated tensor is a few bytes that stand for any size
        stored = value.layout is torch.strided and value.untyped_storage().nbytes() >= value.nbytes
        if not stored or value.device.type != "cpu":
            raise InputError(f"{path}: {name[:80]!r} is not an array of numbers that the file holds in full")
    if any(k.startswith("weights.") for k in state):
        state = {k: v for k, v in state.items() if k.startswith("weights.")}
    return {k.removeprefix("weights.").removeprefix("module."): v for k, v in state.items()}


def _image(state: dict[str, Tensor], num_heads: int) -> Spikingformer:
    try:
        depth = len({k.split(".")[1] for k in state if k.startswith("block.")})
        widths = tuple(state[f"patch_embed.block{i}_conv.weight"].shape[0] for i in range(5))
        ratio = state["block.0.mlp.mlp1_conv.weight"].shape[0] // widths[-1]
        embed_dim, T = state["proj.weight"].shape[0], state["weights_tensor"].numel()
    except KeyError as error:
        raise InputError(f"the published image tower has a tensor {error} that this file lacks") from error
    config = ImageConfig(
        "spikingformer", widths=widths, depth=depth, num_heads=num_heads, mlp_ratio=ratio, published=True
    )
    return Spikingformer(config, NeuronConfig(kind="lif", T=T), embed_dim)


def _text(state: dict[str, Tensor], num_heads: int) -> TextMLP:
    try:
        vocab_size, width = state["clip_embedding.token_embedding.weight"].shape
        embed_dim, hidden = state["fc2.weight"].shape
        length, T = state["fc1.weight"].shape[1] // width, state["weights_tensor"].numel()
    except KeyError as error:
        raise InputError(f"the published text tower has a tensor {error} that this file lacks") from error
    config = TextConfig(
        "mlp", vocab_size, length, width, depth=0, mlp_ratio=hidden // embed_dim, eos_id=vocab_size - 1
    )
    return TextMLP(config, NeuronConfig(kind="lif", T=T), embed_dim)


def _image_name(name: str) -> str:
    if stem := re.fullmatch(r"patch_embed\.block(\d)_(conv|bn)\.(\w+)", name):
        return "stem.convs.{}.{}.{}".format(*stem.groups())
    if block := re.fullmatch(r"block\.(\d+)\.(\w+\.\w+)\.(\w+)", name):
        index, layer, kind = block.groups()
        return f"blocks.{index}.{_BLOCK.get(layer, layer)}.{kind}"
    return {"weights_tensor": "readout.0.weights_T"}.get(name, name.replace("proj.", "readout.1."))


def _matrix(name: str, tensor: Tensor) -> Tensor:
    """1x1 convolutions become matrices, the time weights a vector."""
    if name == "weights_tensor":
        return tensor.flatten()
    if name.startswith("block.") and name.endswith("_conv.weight"):
        return tensor.flatten(1)
    return tensor


def _text_name(name: str) -> str:
    name = name.replace("clip_embedding.token_embedding", "token").replace(
        "clip_embedding.position_embedding", "position"
    )
    return "readout.weights_T" if name == "weights_tensor" else name
