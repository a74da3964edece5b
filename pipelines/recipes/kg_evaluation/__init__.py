"""Measure the knowledge graph: linking, context rules, ranking. `python -m pipelines.recipes.kg_evaluation --help`."""
