"""Synoptic pathology reports: specimens, diagnosis lines, grades, scores, negation, and their concepts."""

import csv
import re
from pathlib import Path

import pytest

from kg import Linker, load_default
from kg.text.diagnosis_lines import link_diagnosis_line
from medmm.pathology import Gleason, grade_group, link_synoptic, parse_synoptic

PROSTATE = """Prostate, biopsy;
  Acinar adenocarcinoma, Gleason's score 7 (3+4), grade group 2 (Gleason pattern 4: 40%), tumor volume: 35%
"""
BREAST = """Breast, sono-guided core biopsy;
  1. Invasive carcinoma of no special type, grade II (Tubule formation: 3, Nuclear grade: 2, Mitoses: 1)
  2. Ductal carcinoma in situ
    - Type: Cribriform
    - Nuclear grade: High
    - Necrosis: Present (Comedo-type)
  3. Microcalcification, 1.2 x 0.8 cm

Note) Hormone receptors follow.
"""
GASTRITIS = """Stomach, endoscopic biopsy;
  Chronic active gastritis
   with 1) erosion
        2) intestinal metaplasia
"""


@pytest.fixture(scope="module")
def linker(tmp_path_factory: pytest.TempPathFactory) -> Linker:
    return Linker(load_default(tmp_path_factory.mktemp("kg-cache")))


def test_prostate_line_gives_gleason_grade_group_and_percentages() -> None:
    (specimen,) = parse_synoptic(PROSTATE).specimens

    (line,) = specimen.diagnoses
    assert (specimen.organ, specimen.procedure) == ("Prostate", "biopsy")
    assert line.text == "Acinar adenocarcinoma"
    assert line.gleason == Gleason(primary=3, secondary=4, score=7, grade_group=2)
    assert dict(line.percentages) == {"gleason pattern 4": 40.0, "tumor volume": 35.0}
    assert line.grade == ""


def test_numbered_lines_attributes_sizes_and_notes_are_told_apart() -> None:
    (specimen,) = parse_synoptic(BREAST).specimens

    invasive, in_situ, calcification = specimen.diagnoses
    assert [line.text for line in specimen.diagnoses] == [
        "Invasive carcinoma of no special type",
        "Ductal carcinoma in situ",
        "Microcalcification, 1.2 x 0.8 cm",
    ]
    assert invasive.grade == "2"
    assert [(one.name, one.value) for one in invasive.attributes] == [
        ("Tubule formation", "3"),
        ("Nuclear grade", "2"),
        ("Mitoses", "1"),
    ]
    assert in_situ.grade == "high"
    assert [one.name for one in in_situ.attributes] == ["Type", "Nuclear grade", "Necrosis"]
    assert calcification.sizes_mm == (12.0, 8.0)
    assert specimen.notes == ("Hormone receptors follow.",)


def test_offsets_point_at_the_name_in_the_report() -> None:
    for report in (PROSTATE, BREAST, GASTRITIS):
        for line in parse_synoptic(report).specimens[0].diagnoses:
            assert " ".join(report[line.start : line.end].split()) == line.text


def test_features_below_a_diagnosis_are_no_diagnoses() -> None:
    (line,) = parse_synoptic(GASTRITIS).specimens[0].diagnoses

    assert line.text == "Chronic active gastritis"
    assert line.features == ("erosion", "intestinal metaplasia")


@pytest.mark.parametrize("text", ["No evidence of tumor", "No tumor present", "Negative for malignancy"])
def test_line_that_denies_is_negated(text: str) -> None:
    (line,) = parse_synoptic(f"Lung, biopsy;\n  {text}").specimens[0].diagnoses

    assert line.is_negated


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("Adenocarcinoma, well differentiated", "1"),
        ("Adenocarcinoma, poorly differentiated", "3"),
        ("Neuroendocrine tumor, G2", "2"),
        ("Invasive carcinoma of no special type, grade III (Tubule formation: 3)", "3"),
        ("Tubular adenoma with low grade dysplasia", "low"),
        ("Non-invasive papillary urothelial carcinoma, high grade", "high"),
        ("Chronic cystitis", ""),
    ],
)
def test_grade_is_read_in_every_way_it_is_written(text: str, grade: str) -> None:
    assert parse_synoptic(f"Colon, biopsy;\n  {text}").specimens[0].diagnoses[0].grade == grade


@pytest.mark.parametrize(
    ("patterns", "group"), [((3, 3), 1), ((3, 4), 2), ((4, 3), 3), ((4, 4), 4), ((3, 5), 4), ((4, 5), 5), ((5, 5), 5)]
)
def test_grade_group_follows_the_isup_table(patterns: tuple[int, int], group: int) -> None:
    assert grade_group(*patterns) == group


def test_several_specimens_keep_their_own_diagnoses() -> None:
    report = "A. Colon, polypectomy;\n  Tubular adenoma\nB. Rectum, biopsy;\n  No evidence of tumor\n"

    first, second = parse_synoptic(report).specimens

    assert (first.organ, first.diagnoses[0].text) == ("Colon", "Tubular adenoma")
    assert (second.organ, second.diagnoses[0].is_negated) == ("Rectum", True)


@pytest.mark.parametrize("text", ["", "The lungs are clear. No effusion.", "FINDINGS: mass; IMPRESSION: cyst"])
def test_text_without_a_specimen_header_is_not_synoptic(text: str) -> None:
    assert not parse_synoptic(text).is_synoptic


def test_lines_become_concepts_and_denials_become_absence(linker: Linker) -> None:
    report = BREAST + "\nLung, biopsy;\n  No evidence of tumor\n"

    mentions = link_synoptic(parse_synoptic(report), linker)

    names = [(linker.graph.name(linker.graph.index(one.concept)), one.status) for one in mentions]
    assert ("Invasive carcinoma of no special type", "present") in names
    assert ("Ductal Carcinoma In Situ", "present") in names
    assert names[-1][1] == "absent"
    assert all(report[one.start : one.end].split() == one.text.split() for one in mentions)


def test_tumour_from_elsewhere_is_not_linked_to_the_organ(linker: Linker) -> None:
    assert link_diagnosis_line(linker, "Adenocarcinoma, favor colorectal primary", "Uterine cervix") is None


def test_judged_diagnosis_lines_are_linked_right_or_not_at_all(linker: Linker) -> None:
    path = Path(__file__).parents[1] / "kg" / "data" / "pathology_lines.tsv"
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))

    right = wrong = 0
    for row in rows:
        found = link_diagnosis_line(linker, row["line"], row["organ"])
        if found is not None:
            is_right = linker.graph.name(linker.graph.index(found.concept)) == row["gold"]
            right, wrong = right + is_right, wrong + (not is_right)

    assert len(rows) == 100
    assert right >= 90
    assert wrong <= 3


@pytest.mark.shared
def test_every_development_report_parses(shared_data: Path) -> None:
    with (shared_data / "text" / "pathology" / "reports_dev.csv").open(encoding="utf-8", newline="") as stream:
        reports = [row["report"] for row in csv.DictReader(stream)]

    wrong_head = wrong_gleason = wrong_grade = 0
    for report in reports:
        specimens = parse_synoptic(report).specimens
        header = report.split(";")[0]
        wrong_head += len(specimens) != 1 or f"{specimens[0].organ}, {specimens[0].procedure}" != " ".join(
            header.split()
        )
        lines = [line for specimen in specimens for line in specimen.diagnoses]
        stated = re.findall(r"score (\d+)\s*\((\d)\+(\d)\), grade group (\d)", report)
        read = [line.gleason for line in lines if line.gleason]
        wrong_gleason += [tuple(map(int, one)) for one in stated] != [
            (one.score, one.primary, one.secondary, one.grade_group) for one in read
        ]
        has_grade = bool(re.search(r"\bgrade\b(?! group)|differentiated|\bG\d", report))
        wrong_grade += has_grade != any(line.grade for line in lines)

    assert len(reports) == 582
    assert (wrong_head, wrong_gleason, wrong_grade) == (0, 0, 0)
