"""Pretrain the model's graph encoder by link prediction. `python -m pipelines.recipes.kg_pretraining --help`."""
