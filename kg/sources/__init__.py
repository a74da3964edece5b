"""Where knowledge comes from: the installed default sources by name, and readers for files by format."""

from kg.sources.registry import DEFAULT_SOURCES, INSTALLED_SOURCES, InstalledSource

__all__ = ["DEFAULT_SOURCES", "INSTALLED_SOURCES", "InstalledSource"]
