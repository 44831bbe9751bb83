"""The trained network as a short list of plain operations; importing it needs no PyTorch (only `lower` does)."""

from spikeclip.graph.execute import execute
from spikeclip.graph.ops import Graph
from spikeclip.graph.store import load_graph, save_graph
from spikeclip.graph.substeps import to_substeps

__all__ = ["Graph", "execute", "load_graph", "save_graph", "to_substeps"]
