"""report.html as text: one file, its own content policy, nothing from outside, and hostile text that stays text."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report_examples import make_explanation

from medmm.report import write_index
from medmm.report.document import PathPart, WordPart
from medmm.report.html import mark_words, render_case
from medmm.report.pages import asset, json_island, shown
from medmm.report.svg import draw_path, signed_bar, walk_names
from medmm.report.texts import load_texts
from medmm.results import Explanation
from medmm.types import Report, Volume

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></script><!-- <svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
]
ALLOWED_LINK = re.compile(r"^(data:|#)")


class _Elements(HTMLParser):
    """Start tags with their attributes, and the text of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            self.raw.append((self.cdata_elem, data))
        else:
            self.text.append(data)


def _parse(page: str) -> _Elements:
    parser = _Elements()
    parser.feed(page)
    parser.close()
    return parser


def _shape(page: _Elements) -> list[tuple[str, list[str]]]:
    """Elements and their attributes' names; lines of text in drawings are left out, since longer names need more."""
    return [(tag, sorted(names)) for tag, names in page.elements if tag != "text"]


def _page(explained: Explanation, **options: object) -> str:
    return render_case(explained.report(), **options)  # type: ignore[arg-type]


@pytest.mark.bad_input("D4")
@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_adds_no_element_and_no_attribute(hostile: str) -> None:
    tame = _parse(_page(make_explanation(lambda text: f"{text} x"), include_report_text=True))

    wild = _parse(_page(make_explanation(lambda text: f"{text} {hostile}"), include_report_text=True))

    assert _shape(wild) == _shape(tame)
    assert sum(hostile in text for text in wild.text) > 20


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_stays_text_on_the_cohort_page(hostile: str, tmp_path: Path) -> None:
    def elements(text: str) -> list[tuple[str, list[str]]]:
        row = {"case": text, "status": "ok", text: text, f"{text}.probability": 0.5, f"{text}.set": text, "codes": text}
        failures = [{"case": text, "stage": text, "code": text, "reason": text, "remedy": text}]
        page = write_index(tmp_path, [row], {text: {text: text}}, failures=failures).read_text(encoding="utf-8")
        return [(tag, sorted(names)) for tag, names in _parse(page).elements]

    assert elements(hostile) == elements("x")


@pytest.mark.bad_input("I6")
def test_page_asks_for_nothing_outside_itself() -> None:
    for tag, attributes in _parse(_page(make_explanation())).elements:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            assert attributes.get(name) is None or ALLOWED_LINK.match(attributes[name] or ""), (tag, name)


@pytest.mark.bad_input("D4")
def test_policy_allows_its_own_code_by_hash_and_nothing_else() -> None:
    page = _parse(_page(make_explanation()))
    policy = next(a["content"] or "" for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    parts = dict(part.split(" ", 1) for part in policy.split("; "))

    def hashed(kind: str) -> str:
        codes = [text for tag, text in page.raw if tag == kind and not text.startswith("{")]
        hashes = (base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in codes)
        return " ".join(f"'sha256-{value}'" for value in hashes)

    assert parts == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": hashed("style"),
        "script-src": hashed("script"),
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_policy_comes_before_anything_it_governs() -> None:
    page = _page(make_explanation())

    assert page.index("Content-Security-Policy") < min(
        page.index("<style>"), page.index("<link"), page.index("<script")
    )


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_section_has_a_heading_and_a_link_to_it(lang: str) -> None:
    page = _parse(_page(make_explanation(), lang=lang))

    anchors = {attributes["id"] for tag, attributes in page.elements if tag == "section"}
    links = {(attributes["href"] or "")[1:] for tag, attributes in page.elements if tag == "a"}

    assert anchors == links
    assert {"summary", "draft", "viewer-section", "pictures", "why-1", "why-2", "report", "limits"} <= anchors


def test_page_says_that_it_is_research_software() -> None:
    assert _page(make_explanation()).count("Research software, not a medical device.") >= 2


def test_ids_are_unique_and_labels_lead_somewhere() -> None:
    elements = _parse(_page(make_explanation())).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]

    assert len(ids) == len(set(ids))
    for _, attributes in elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name) is None or attributes[name] in ids
    assert all(attributes.get("alt") for tag, attributes in elements if tag == "img")


@pytest.mark.bad_input("I2")
def test_report_text_is_announced_as_hidden() -> None:
    page = _page(make_explanation())

    assert "Rerun with --include-report-text to see it." in page
    assert "xylophone" not in page


@pytest.mark.bad_input("I3")
def test_the_strongest_words_are_looked_for_in_the_whole_report() -> None:
    explained = make_explanation()
    why = explained.tasks["side"]
    weak, strong = why.words[0], replace(why.words[0], value=0.9, section="impression")
    first = [replace(weak, value=0.01, section="history")] * 5
    words = replace(why, words=(*first, *[strong] * 5))

    page = _page(replace(explained, tasks={**explained.tasks, "side": words}))

    assert "the strongest lie in: impression." in page


def test_where_the_strongest_words_lie_is_not_said_without_sections() -> None:
    explained = make_explanation()
    why = explained.tasks["side"]
    plain = replace(why, words=tuple(replace(word, section="") for word in why.words))

    assert "the strongest lie in" not in _page(replace(explained, tasks={"side": plain}))


def test_warning_of_burned_in_text_stands_on_top() -> None:
    explained = make_explanation()
    note = replace(explained.diagnosis.notes[0], code="image.burned_in", message="Text may be burned in.")
    page = _page(make_explanation(notes=(note,)))

    assert page.index("Text may be burned in.") < page.index('class="answers"')


def test_page_of_three_large_series_stays_below_five_megabytes() -> None:
    noise = np.random.default_rng(0).normal(500, 200, (1, 256, 256, 25)).astype(np.float32)
    volume = Volume(voxels=noise, affine_ras=np.diag([0.9, 0.9, 5, 1.0]), modality="MR")
    explained = make_explanation()
    why = explained.tasks["side"]
    wide = replace(why.volumes[1], values=np.abs(noise[0]) / 2000, affine_ras=volume.affine_ras)
    case = replace(explained.case, volumes=dict.fromkeys(("t1", "flair", "t1ce"), volume))
    tasks = {name: replace(why, task=name, volumes=(wide,)) for name in explained.tasks}
    report = replace(explained, case=case, tasks=tasks).report()

    page = render_case(report)

    assert len(page.encode()) <= 5_000_000


def test_page_of_a_huge_report_stays_below_five_megabytes() -> None:
    explained = make_explanation()
    text = "word & " * 200_000
    explained = replace(explained, case=replace(explained.case, report=Report(text=text)))

    page = _page(explained, include_report_text=True)

    assert len(page.encode()) <= 5_000_000
    assert f"Only its first 30000 of {len(text)} characters are shown." in page


@pytest.mark.bad_input("I3")
def test_images_can_be_withheld() -> None:
    page = _parse(render_case(make_explanation().report().without_images()))

    assert not [tag for tag, _ in page.elements if tag in ("img", "canvas")]
    assert "data:image" not in "".join(text for _, text in page.raw)
    assert any("Right side" in text for text in page.text)


def _contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_text_has_enough_contrast_in_light_in_dark_and_on_paper() -> None:
    blocks = re.findall(r":root \{(.*?)\}", asset("style.css"), flags=re.DOTALL)
    pairs = [(ink, page) for ink in ("ink", "soft", "accent", "good-ink", "bad-ink") for page in ("page", "panel")]
    pairs += [("warn-ink", "warn-page"), ("bad-ink", "bad-page")]
    pairs += [("ink", f"{side}-{strength}") for side in ("for", "against") for strength in (1, 2, 3)]

    assert len(blocks) == 3
    for block in blocks:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]+);", block))
        for ink, page in pairs:
            assert _contrast(colours[ink], colours[page]) >= 4.5, (ink, page)


def test_data_for_scripts_cannot_end_its_element() -> None:
    island = json_island({"text": "</script><!--&"})

    assert "<" not in island
    assert ">" not in island
    assert "&" not in island


def test_invisible_and_direction_turning_characters_are_shown_as_such() -> None:
    assert shown("a\x00b\u202ec\x1b[31m\nd") == "a�b�c�[31m\nd"


def test_marked_words_join_to_the_report() -> None:
    report = "one two three"
    words = (
        WordPart(start=4, end=7, value=1.0, section=""),
        WordPart(start=5, end=9, value=0.9, section=""),
        WordPart(start=8, end=99, value=0.9, section=""),
        WordPart(start=0, end=3, value=-0.4, section=""),
    )

    spans = mark_words(report, words)

    assert "".join(span.text for span in spans) == report
    assert [span.tone for span in spans] == ["against-1", "", "for-3", ""]


def test_path_walked_backwards_keeps_its_arrow_at_the_object() -> None:
    hop = {
        "subject": "X:2",
        "subject_name": "Tumour",
        "predicate": "has_finding",
        "object": "X:1",
        "object_name": "Mass",
        "source": "toy",
        "source_version": "1",
        "trust": 0.5,
        "is_forward": False,
    }
    path = PathPart.model_validate({"score": 0.2, "origin": "report", "hops": [hop]})

    drawing = draw_path(path, load_texts("en"))

    assert walk_names(path) == ["Mass", "Tumour"]
    assert drawing.arrows[0].y_to < drawing.arrows[0].y_from
    assert drawing.boxes[0].lines == ("Mass",)


def test_bars_against_the_answer_run_left_of_the_middle() -> None:
    bar = signed_bar(-0.5, 1.0)

    assert (bar.x, bar.width, bar.is_positive) == (50.0, 50.0, False)
    assert signed_bar(0.0, 0.0).width == 0


def test_drawings_carry_their_colours_for_renderers_without_style_sheets() -> None:
    for tag, attributes in _parse(_page(make_explanation())).elements:
        if tag in ("rect", "line") and attributes.get("class") not in (None, "stripe"):
            assert attributes.get("fill") or attributes.get("stroke"), attributes
