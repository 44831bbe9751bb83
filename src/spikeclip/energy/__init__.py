"""What a network costs, level by level, from its graph and its measured firing; imports no PyTorch."""

from spikeclip.energy.conventions import Conventions, load_conventions
from spikeclip.energy.counts import counts
from spikeclip.energy.ledger import LEVELS, Network, Row, joules, ledger

__all__ = ["LEVELS", "Conventions", "Network", "Row", "counts", "joules", "ledger", "load_conventions"]
