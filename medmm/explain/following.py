"""What a ranking did to the answer of a task that follows it, and by which candidates."""

from typing import cast

import torch

from medmm.config import TaskSpec
from medmm.following import FollowedRanking
from medmm.heads import probabilities
from medmm.inputs import CaseReader
from medmm.model import ModelInputs
from medmm.results import CandidateShare, RankingShare

N_CANDIDATES = 3


@torch.no_grad()
def ranking_share(reader: CaseReader, inputs: ModelInputs, task: TaskSpec, target: int) -> RankingShare | None:
    """Return what the target's probability owes to the ranking that a task follows; None where it follows none.

    The ranking is made from the same modalities, whose Shapley values therefore hold its part already.

    Args:
        reader: Front of the model.
        inputs: One case.
        task: Whose answer is explained.
        target: Its class.
    """
    if not task.follows:
        return None
    model = reader.model
    ranking, followed = model.labels.task(task.follows), cast(FollowedRanking, model.following[task.name])
    logits = model(inputs).logits
    ranked, own = logits[ranking.name], logits[task.name]
    whole, without = (
        float(probabilities(values, task.kind, task.calibration.temperature)[0, target])
        for values in (own, own - followed(ranked))
    )
    parts = followed.chances(ranked)[0] * followed.classes_of[:, target]
    shares = parts / parts.sum().clamp_min(torch.finfo(parts.dtype).tiny)
    strongest = shares.topk(min(N_CANDIDATES, len(shares)))
    return RankingShare(
        task=ranking.name,
        title=ranking.title,
        attribution=whole - without,
        candidates=tuple(
            CandidateShare(name=ranking.classes[row].name, title=ranking.classes[row].title, share=share)
            for share, row in zip(strongest.values.tolist(), strongest.indices.tolist(), strict=True)
        ),
    )
