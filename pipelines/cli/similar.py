"""`medmm similar`: cases like this one."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.console import one_line, stderr, stdout
from pipelines.cli.tables import show_table

if TYPE_CHECKING:
    from medmm.diagnose import Diagnoser
    from medmm.types import Case


def similar(
    studies: Annotated[Path, typer.Argument(help="Folder of DICOM studies, or a manifest (CSV).")],
    index: Annotated[Path, typer.Option(help="Folder of the index.")],
    model: Annotated[str, typer.Option(help="The model that compares: a shipped name or a directory.")],
    build: Annotated[
        bool, typer.Option("--build", help="Make the index of these cases, instead of searching.")
    ] = False,
    by: Annotated[str, typer.Option(help="What of the case is compared: fused, image, text or graph.")] = "fused",
    find: Annotated[str, typer.Option(help="What is looked for: the same, or image by text and text by image.")] = "",
    top: Annotated[int, typer.Option(min=1, help="How many cases to show.")] = 5,
    reports: Annotated[Path | None, typer.Option(help="Reports, as for `medmm diagnose`.")] = None,
    records: Annotated[Path | None, typer.Option(help="Records, as for `medmm diagnose`.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Find the cases of an index that are most like these, by image, text, concepts or everything together.

    Similarity is the cosine of what the model makes of two cases; labels are those of the manifest that was indexed.

    \b
    Example:
      medmm similar archive/ --build --index archive.index --model glioma-mri
      medmm similar new_study/ --index archive.index --model glioma-mri --by image

    Exit codes: 0 all cases were read, 1 some were not, 2 wrong use.
    """
    from medmm.diagnose import load_model
    from medmm.errors import InputError, UsageError
    from pipelines.similar import KINDS, SimilarityIndex, embed_case, read_index

    wanted = {"--by": by, "--find": find or by}
    for option, kind in wanted.items():
        if kind not in KINDS:
            raise UsageError(
                f"Expected {option} to be one of {', '.join(KINDS)} (got {kind[:20]!r}).", code="config.key"
            )
    known = None if build else read_index(index)
    diagnoser = load_model(model, device=device)
    if known is not None:
        known.check(diagnoser)
    refused, embedded = 0, []
    rows = []
    for name, read, labels in _cases(studies, reports, records, diagnoser):
        try:
            embedding = embed_case(diagnoser, read())
            found = () if known is None else known.search(embedding, by, find or None, top)  # type: ignore[arg-type]  # checked above
        except InputError as error:
            refused += 1
            stderr().print(f"{name} is left out: {one_line(str(error))} ({error.code})", soft_wrap=True)
            continue
        embedded.append((name, embedding, labels))
        for item in found:
            said = ", ".join(f"{task}: {label}" for task, label in item.labels.items())
            rows.append((name, item.case_id, f"{item.similarity:.3f}", said))
    if build:
        SimilarityIndex.build(diagnoser, embedded).write(index)
        stdout().print(f"Indexed {len(embedded)} cases, {refused} refused.")
    else:
        header = ("case", "similar", "cosine", "labels")
        show_table(header, rows, whole=header[:2], right=("cosine",))
    raise typer.Exit(1 if refused else 0)


def _cases(
    studies: Path, reports: Path | None, records: Path | None, diagnoser: "Diagnoser"
) -> Iterator[tuple[str, Callable[[], "Case"], Mapping[str, str]]]:
    """Name, how to read it, and known labels of each case."""
    if studies.suffix.lower() == ".csv":
        from pipelines.manifest import read_manifest

        for row in read_manifest(studies).rows:
            yield row.case, row.read, row.labels
        return
    from medmm.cases import find_cases

    spec = diagnoser.spec
    cases = find_cases(studies, reports=reports, records=records, roles=spec.roles, record_fields=spec.record_fields)
    for plan in cases.plans:
        yield plan.case_id, plan.read, {}
