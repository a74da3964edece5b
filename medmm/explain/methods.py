"""Which methods an explanation uses, by name. No torch here: a run's settings are checked before a model loads."""

from dataclasses import dataclass
from typing import Literal, get_args

from medmm.errors import UsageError

VolumeMethod = Literal[
    "lesion",
    "gradcam",
    "gradcam++",
    "hirescam",
    "layercam",
    "integrated_gradients",
    "smoothgrad",
    "occlusion",
]
TextMethod = Literal["gradient", "integrated_gradients"]
VOLUME_METHODS: tuple[VolumeMethod, ...] = get_args(VolumeMethod)
TEXT_METHODS: tuple[TextMethod, ...] = get_args(TextMethod)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationMethods:
    """How voxels and words are attributed; the other parts of an explanation have one method each.

    `volume`: see `medmm.explain.volume`. `text`: `gradient` x input at the last states, or `integrated_gradients` from
    a report of mask tokens.

    Raises:
        UsageError: `config.key` for a name that does not exist.
    """

    volume: VolumeMethod = "lesion"
    text: TextMethod = "gradient"

    def __post_init__(self) -> None:
        for what, name, known in (("volume", self.volume, VOLUME_METHODS), ("text", self.text, TEXT_METHODS)):
            if name not in known:
                raise UsageError(
                    f"Expected a method for the {what} out of {', '.join(known)} (got {name!r}).", code="config.key"
                )
