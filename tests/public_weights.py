"""Weights of a tower as public files name them."""

from torch import Tensor

from spikeclip.convert.network import Network, families


def public_state(network: Network) -> dict[str, Tensor]:
    """The weights of an ordinary network under the names of its family's files."""
    state, modules = {}, families()[0].modules
    for name, value in network.tower.state_dict().items():
        module, _, kind = name.rpartition(".")
        number = module.split(".")[1] if module.startswith("blocks.") else ""
        theirs = modules.get(module.replace(f".{number}.", ".{i}.") if number else module)
        if theirs:
            state[f"{theirs.replace('{i}', number)}.{kind}"] = value
    return state
