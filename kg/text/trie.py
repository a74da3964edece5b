"""A trie over token sequences in one flat dictionary: finds every known phrase of a text, token by token.

Keys are (node << TOKEN_BITS) | token id, so a step is one lookup of an int. Time is linear in the text (at most the
longest phrase's steps from each token). An Aho-Corasick automaton over characters builds slower and takes more memory:
here a step is a word, and most words start no phrase.
"""

from collections.abc import Sequence

TOKEN_BITS = 22


# (start, stop, value): tokens [start, stop) are the phrase that was added with `value`. A plain tuple: a text has many.
Found = tuple[int, int, int]


class TokenTrie:
    """Phrases (token sequences) with an int each."""

    __slots__ = ("_edges", "_nodes", "_roots", "_tokens", "_values")

    def __init__(self) -> None:
        self._roots: dict[str, int] = {}  # first token -> node: most words of a text end the search here
        self._tokens: dict[str, int] = {}  # later tokens -> token id
        self._edges: dict[int, int] = {}
        self._values: dict[int, int] = {}
        self._nodes = 0

    def __len__(self) -> int:
        return len(self._values)

    def add(self, tokens: Sequence[str], value: int) -> None:
        """Add a phrase; a phrase added twice keeps the last value."""
        if not tokens:
            return
        node = self._roots.get(tokens[0])
        if node is None:
            self._nodes += 1
            self._roots[tokens[0]] = node = self._nodes
        for token in tokens[1:]:
            key = node << TOKEN_BITS | self._tokens.setdefault(token, len(self._tokens))
            following = self._edges.get(key)
            if following is None:
                self._nodes += 1
                self._edges[key] = following = self._nodes
            node = following
        self._values[node] = value

    def get(self, tokens: Sequence[str]) -> int | None:
        """Return the value of exactly this phrase, or None."""
        node = self._roots.get(tokens[0]) if tokens else None
        for token in tokens[1:]:
            number = self._tokens.get(token)
            if node is None or number is None:
                return None
            node = self._edges.get(node << TOKEN_BITS | number)
        return None if node is None else self._values.get(node)

    def find(self, tokens: Sequence[str]) -> list[Found]:
        """Return every phrase that stands in a token sequence, nested ones too, by start, then length."""
        roots, known, edges, values = self._roots, self._tokens, self._edges, self._values
        count = len(tokens)
        found: list[Found] = []
        for start, root in enumerate(map(roots.get, tokens)):
            node, stop = root, start + 1
            while node is not None:
                value = values.get(node)
                if value is not None:
                    found.append((start, stop, value))
                if stop == count:
                    break
                number = known.get(tokens[stop])
                if number is None:
                    break
                node = edges.get(node << TOKEN_BITS | number)
                stop += 1
        return found
