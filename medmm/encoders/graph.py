"""Graph attention over the part of the knowledge graph that a case touches.

The subgraph is cut out around the case's evidence by personalised PageRank (`kg.subgraph`); here it becomes node
features, passes graph attention layers with a relation embedding on each edge, and is read out by learned queries.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kg.graph import KnowledgeGraph
from kg.schema import KINDS, PREDICATES
from kg.subgraph import Subgraph
from medmm.encoders.geometric import GATConv, GATv2Conv, softmax
from medmm.encoders.heterogeneous import HeterogeneousLayer
from medmm.encoders.names import NAME_WIDTH, name_vectors
from medmm.encoders.tokens import Tokens

GraphNetwork = Literal["gatv2", "gat", "hgt"]
N_RELATIONS = 2 * (len(PREDICATES) + 1)  # each direction of each predicate, and "any other"
NODE_WIDTH = NAME_WIDTH + len(KINDS) + 2  # name, kind, evidence weight, log PageRank
_KIND_INDEX = {kind: index for index, kind in enumerate(KINDS)}
_PREDICATE_INDEX = {predicate: index for index, predicate in enumerate(PREDICATES)}


@dataclass(frozen=True, slots=True)
class GraphInput:
    """Subgraphs of a batch laid side by side. `case` (V,): which case of the batch a node belongs to."""

    nodes: Float[Tensor, "V F"]
    edges: Int[Tensor, "2 E"]
    relations: Int[Tensor, " E"]
    case: Int[Tensor, " V"]
    n_cases: int

    def to(self, device: torch.device) -> "GraphInput":
        """The same on another device."""
        return GraphInput(
            self.nodes.to(device), self.edges.to(device), self.relations.to(device), self.case.to(device), self.n_cases
        )


def graph_input(graph: KnowledgeGraph, subgraphs: list[Subgraph | None]) -> GraphInput:
    """Return the features of the cases' subgraphs; a case with None adds no node."""
    nodes, edges, relations, case = [np.zeros((0, NODE_WIDTH), np.float32)], [], [], []
    offset = 0
    for index, subgraph in enumerate(subgraphs):
        if subgraph is None:
            continue
        nodes.append(node_features(graph, subgraph))
        both, relation = _both_directions(graph, subgraph)
        edges.append(both + offset)
        relations.append(relation)
        case.append(np.full(len(subgraph.concepts), index))
        offset += len(subgraph.concepts)
    return GraphInput(
        nodes=torch.from_numpy(np.concatenate(nodes)),
        edges=torch.from_numpy(np.concatenate(edges, axis=1) if edges else np.zeros((2, 0), np.int64)).long(),
        relations=torch.from_numpy(np.concatenate(relations) if relations else np.zeros(0, np.int64)).long(),
        case=torch.from_numpy(np.concatenate(case) if case else np.zeros(0, np.int64)).long(),
        n_cases=len(subgraphs),
    )


def node_features(graph: KnowledgeGraph, subgraph: Subgraph) -> np.ndarray:
    """Return float32 (V, NODE_WIDTH): hashed name, kind, evidence weight (negative where denied), log PageRank."""
    concepts = [int(concept) for concept in subgraph.concepts]
    kinds = np.zeros((len(concepts), len(KINDS)), dtype=np.float32)
    for row, concept in enumerate(concepts):
        kinds[row, _KIND_INDEX[graph.kind(concept)]] = 1
    rank = np.log10(np.maximum(subgraph.scores, 1e-8)) / 4 + 1
    return np.concatenate(
        [
            name_vectors([graph.name(concept) for concept in concepts]),
            kinds,
            subgraph.seed_weights[:, None].astype(np.float32),
            rank[:, None].astype(np.float32),
        ],
        axis=1,
    )


def _both_directions(graph: KnowledgeGraph, subgraph: Subgraph) -> tuple[np.ndarray, np.ndarray]:
    """Edges (2, 2E) forward then backward, with relation ids by predicate name, so that another graph's order fits."""
    other = len(PREDICATES)
    to_id = np.array([_PREDICATE_INDEX.get(name, other) for name in graph.predicates], dtype=np.int64)
    forward = to_id[subgraph.relations]
    edges = np.asarray(subgraph.edges, dtype=np.int64)
    return np.concatenate([edges, edges[::-1]], axis=1), np.concatenate([forward, forward + other + 1])


class GraphEncoder(nn.Module):
    """Attention layers over the relations, read out by learned queries.

    `gat` (Velickovic et al., ICLR 2018) and `gatv2` (Brody, Alon, Yahav, ICLR 2022) take an embedding of the relation
    as the feature of an edge; `hgt` is `HeterogeneousLayer`.
    """

    def __init__(
        self, width: int, *, n_layers: int = 2, n_heads: int = 4, n_queries: int = 2, network: GraphNetwork = "gatv2"
    ) -> None:
        super().__init__()
        self.network: GraphNetwork = network
        self.enter = nn.Linear(NODE_WIDTH, width)
        self.relation = nn.Embedding(N_RELATIONS, 16)
        self.layers = nn.ModuleList([_layer(network, width, n_heads) for _ in range(n_layers)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(n_layers)])
        self.queries = nn.Parameter(torch.randn(n_queries, width) / width**0.5)

    def forward(self, graph: GraphInput) -> Tokens:
        states = self.states(graph.nodes, graph.edges, graph.relations)
        logits = states @ self.queries.T  # (V, Q)
        weights = softmax(logits, graph.case, num_nodes=graph.n_cases)
        pooled = states.new_zeros(graph.n_cases, self.queries.shape[0], states.shape[1])
        pooled = pooled.index_add(0, graph.case, weights[..., None] * states[:, None])
        has_nodes = torch.bincount(graph.case, minlength=graph.n_cases) > 0
        return Tokens(pooled, has_nodes[:, None].expand(-1, self.queries.shape[0]))

    def states(
        self, nodes: Float[Tensor, "V N"], edges: Int[Tensor, "2 E"], relations: Int[Tensor, " E"]
    ) -> Float[Tensor, "V F"]:
        """Return the nodes' states before the readout, which pretraining learns from."""
        states = self.enter(nodes)
        edge_features = self.relation(relations)
        kinds = nodes[:, NAME_WIDTH : NAME_WIDTH + len(KINDS)].argmax(dim=1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            if self.network == "hgt":
                said = layer(norm(states), edges, relations, kinds)
            else:
                said = layer(norm(states), edges, edge_features)
            states = states + torch.nn.functional.gelu(said)
        return states


def _layer(network: GraphNetwork, width: int, n_heads: int) -> nn.Module:
    if network == "hgt":
        return HeterogeneousLayer(width, n_heads, len(KINDS), N_RELATIONS)
    convolution = GATv2Conv if network == "gatv2" else GATConv
    return convolution(width, width // n_heads, heads=n_heads, edge_dim=16)
