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

    __slots__ = ("_edges", "_roots", "_tokens", "_values")

    def __init__(self) -> None:
        self._roots: dict[str, int] = {}  # first token -> node: most words of a text end the search here
        self._tokens: dict[str, int] = {}  # later tokens -> token id
        self._edges: dict[int, int] = {}
        self._values = [-1]  # by node; -1 where no phrase ends

    def __len__(self) -> int:
        return sum(value >= 0 for value in self._values)

    def add(self, tokens: Sequence[str], value: int) -> None:
        """Add a phrase with a value >= 0; a phrase added twice keeps the last value."""
        if not tokens:
            return
        node = self._roots.get(tokens[0])
        if node is None:
            self._roots[tokens[0]] = node = self._new_node()
        for token in tokens[1:]:
            key = node << TOKEN_BITS | self._tokens.setdefault(token, len(self._tokens))
            following = self._edges.get(key)
            if following is None:
                self._edges[key] = following = self._new_node()
            node = following
        self._values[node] = value

    def _new_node(self) -> int:
        self._values.append(-1)
        return len(self._values) - 1

    def get(self, tokens: Sequence[str]) -> int | None:
        """Return the value of exactly this phrase, or None."""
        node = self._roots.get(tokens[0]) if tokens else None
        for token in tokens[1:]:
            number = self._tokens.get(token)
            if node is None or number is None:
                return None
            node = self._edges.get(node << TOKEN_BITS | number)
        return None if node is None or self._values[node] < 0 else self._values[node]

    def find(self, tokens: Sequence[str]) -> list[Found]:
        """Return every phrase that stands in a token sequence, nested ones too, by start, then length."""
        edges, values = self._edges, self._values
        numbers = list(map(self._tokens.get, tokens))
        numbers.append(None)  # ends every search at the end of the text
        found: list[Found] = []
        for start, root in enumerate(map(self._roots.get, tokens)):
            if root is None:
                continue
            node, stop = root, start + 1
            if (value := values[node]) >= 0:
                found.append((start, stop, value))
            while (number := numbers[stop]) is not None:
                following = edges.get(node << TOKEN_BITS | number)
                if following is None:
                    break
                node = following
                stop += 1
                if (value := values[node]) >= 0:
                    found.append((start, stop, value))
        return found
