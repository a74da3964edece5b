"""A concept found in a text, with what the text says about it."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["present", "absent", "uncertain"]
Experiencer = Literal["patient", "other"]
Temporality = Literal["recent", "historical", "hypothetical"]
Method = Literal["name", "synonym", "abbreviation", "adjective", "related", "embedding", "embedding-flagged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """`text[start:end]` of the input names `concept` (a CURIE of the graph).

    `status`, `experiencer` and `temporality` follow ConText (Harkema et al., J Biomed Inform 2009;42:839-851).
    `score` (0-1) is how sure the link is; `method` says how it was found.
    """

    start: int
    end: int
    text: str
    concept: str
    status: Status = "present"
    experiencer: Experiencer = "patient"
    temporality: Temporality = "recent"
    score: float = 1.0
    method: Method = "name"

    @property
    def is_evidence(self) -> bool:
        """Whether the text asserts the concept of this patient now: not denied, not past, not a relative's."""
        return self.status != "absent" and self.experiencer == "patient" and self.temporality == "recent"
