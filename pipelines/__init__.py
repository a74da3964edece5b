"""Many cases: batch diagnosis, training, evaluation, recipes and the command line."""
