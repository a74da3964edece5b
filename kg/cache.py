"""Where built graphs are kept between runs, and how a torn one is replaced."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from kg.errors import GraphError
from kg.graph import KnowledgeGraph
from kg.storage import read, write

logger = logging.getLogger(__name__)

ENVIRONMENT_VARIABLE = "MEDMM_CACHE"


def cache_folder(override: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder for derived files: `override`, else the variable MEDMM_CACHE, else the platform's own place."""
    if override is not None:
        return Path(override)
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "medmm"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "medmm"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medmm"


def cached_graph(key: str, build: Callable[[], KnowledgeGraph], folder: Path) -> KnowledgeGraph:
    """Return the graph kept under `key`, building it where it is missing, damaged or from another version.

    A cache that cannot be written costs time, not the result: the graph is then used from memory, with a warning.
    """
    path = folder / f"kg-{key[:32]}.kg"
    if path.is_file():
        try:
            return read(path)
        except GraphError as error:
            logger.warning("Rebuilding the cached knowledge graph: %s", error)
    graph = build()
    try:
        write(graph, path)
    except OSError as error:
        logger.warning("Could not keep the knowledge graph for the next start (%s).", error.strerror)
        return graph
    return read(path, is_verified=False)
