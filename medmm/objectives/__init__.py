"""Training objectives besides supervision, each a small piece that a recipe switches on."""
