"""Fusion: token sets of several modalities to one case embedding, whatever is present."""
