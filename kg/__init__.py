"""The medical knowledge graph: concepts, relations, linking, ranking. Usable alone; no torch."""
