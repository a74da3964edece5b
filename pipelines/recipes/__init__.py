"""Recipes: from a public data set to a model directory with its evaluation, by one command each."""
