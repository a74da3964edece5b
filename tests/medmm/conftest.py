"""What tests of models share: a small graph, and a small text encoder."""

import pytest
import tiny_models as tiny

from kg import KnowledgeGraph
from medmm.encoders.text import TextEncoder


@pytest.fixture(scope="module")
def graph() -> KnowledgeGraph:
    return tiny.build_graph()


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    """It reads 16 pieces at a time, so that a report has several windows."""
    return TextEncoder(str(tiny.write_tiny_bert(tmp_path_factory.mktemp("bert"))), 16)
