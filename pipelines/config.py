"""Settings of a batch run: what may change results (`RunConfig`) and what may not (`RunLimits`)."""

import difflib
import hashlib
from collections.abc import Iterable
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from medmm.dicom.limits import Limits
from medmm.errors import UsageError
from medmm.explain.methods import ExplanationMethods, TextMethod, VolumeMethod

Settings = TypeVar("Settings", bound=BaseModel)
ExplainLevel = Literal["fast", "full", "none"]


class RunConfig(BaseModel):
    """What the results depend on, besides the input and the model. Part of the run's fingerprint."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    explain: ExplainLevel = Field(default="fast", description="fast, full (with tests of the explanation), or none")
    explain_volume: VolumeMethod = Field(default="lesion", description="how voxels are attributed")
    explain_text: TextMethod = Field(default="gradient", description="how words are attributed")
    formats: tuple[str, ...] = Field(default=("html", "json", "nii"), description="what is written per case")
    lang: str = Field(default="en", description="language of the reports: en or zh")
    include_report_text: bool = Field(default=False, description="show the report's words in the outputs")
    label_leak: Literal["warn", "mask"] = Field(
        default="warn", description="what to do with a report that names an answer: warn, or mask the words"
    )
    withhold_images: bool = Field(default=False, description="leave pictures of the volume out of the reports")
    allow_other_graph: bool = Field(
        default=False, description="run although the knowledge graph differs from the model's"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the large networks; bfloat16 is for recent GPUs"
    )
    batch_mib: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="memory of one pass of the network that several studies share; 0: one study at a time; by default "
        "2048 on a GPU and 0 on a CPU",
    )
    seed: int = Field(default=0, ge=0, description="start of every random number")

    @field_validator("formats")
    @classmethod
    def _known_formats(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        from medmm.report.writers import check_formats

        return check_formats(formats)

    @field_validator("lang")
    @classmethod
    def _known_language(cls, lang: str) -> str:
        from medmm.report.texts import load_texts

        load_texts(lang)
        return lang

    @property
    def methods(self) -> ExplanationMethods:
        """How voxels and words are attributed."""
        return ExplanationMethods(volume=self.explain_volume, text=self.explain_text)

    @property
    def digest(self) -> str:
        """SHA-256 of all settings."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class RunLimits(BaseModel):
    """Caps that protect the machine; results do not depend on them."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    worker_memory_gb: float = Field(default=4.0, gt=0.25, le=1024, description="address space of a decode process")
    worker_seconds: float = Field(default=60.0, gt=0, le=86_400, description="time to read one file")

    def for_dicom(self) -> Limits:
        """The caps as `medmm.dicom` takes them."""
        return Limits(memory_bytes=int(self.worker_memory_gb * 2**30), seconds=self.worker_seconds)


def settings_from(pairs: Iterable[str]) -> dict[str, str]:
    """Return `key=value` texts as a mapping.

    Raises:
        UsageError: `config.key` for a text without `=`, a key twice, or a key that neither settings model knows.
    """
    known = (*RunConfig.model_fields, *RunLimits.model_fields)
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or key in found:
            raise UsageError("Expected --set KEY=VALUE, each key once.", code="config.key")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise UsageError(
                f"There is no setting {key[:40]!r}.",
                code="config.key",
                remedy=f"Did you mean {near[0]!r}?" if near else f"Settings are {', '.join(sorted(known))}.",
            )
        found[key] = value
    return found


def build_config(**values: object) -> RunConfig:
    """Return a checked `RunConfig`.

    Raises:
        UsageError: `config.key`, naming the setting and what is allowed.
    """
    return _checked(RunConfig, values)


def build_limits(**values: object) -> RunLimits:
    """Return checked `RunLimits`; raises as `build_config`."""
    return _checked(RunLimits, values)


def _checked(kind: type[Settings], values: dict[str, object]) -> Settings:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        raise UsageError(f"The setting {name!r} is not valid: {first['msg']}.", code="config.key") from None
