"""`python -m pipelines.cli`: the same as `medmm`."""

from pipelines.cli.app import main

main()
