"""The command line `medmm`."""

from pipelines.cli.app import main

__all__ = ["main"]
