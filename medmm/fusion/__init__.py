"""Fusion by name (`kinds`): token sets of the modalities and which are present in, one case embedding out."""
