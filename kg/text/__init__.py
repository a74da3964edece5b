"""Text side of the graph: normalisation, the dictionary, context rules, the linker."""
