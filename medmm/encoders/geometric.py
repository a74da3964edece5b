"""What is used of torch_geometric, imported in one place without its warning."""

import warnings

with warnings.catch_warnings():  # torch_geometric scripts a class when it is imported, which torch has deprecated
    warnings.filterwarnings("ignore", message=".*torch.jit.script.* is deprecated", category=DeprecationWarning)
    from torch_geometric.nn import GATConv, GATv2Conv
    from torch_geometric.utils import softmax

__all__ = ["GATConv", "GATv2Conv", "softmax"]
