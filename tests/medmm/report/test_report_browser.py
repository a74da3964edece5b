"""The pages in a real browser: the viewer, scripts off, hostile text, the cohort table."""

from pathlib import Path

import pytest
from report_browser import Browser
from report_examples import make_explanation

from medmm.report import build_case_report, refused_row, result_row, write_index

READY = "return document.getElementById('viewer').dataset.ready"
SLICE = "return document.getElementById('viewer').dataset.slice"
PIXELS = "return document.getElementById('slice').toDataURL()"
HOSTILE = "<script>window.hacked=1</script>\"'><img src=x onerror=window.hacked=1></style></title>{{7*7}}javascript:1"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = build_case_report(make_explanation()).save(tmp_path, formats=["html"]).html
    assert path is not None
    return path


@pytest.fixture
def viewer(browser: Browser, page: Path) -> Browser:
    browser.open(page)
    browser.wait(READY)
    browser.run("document.getElementById('slice').scrollIntoView({block: 'center', behavior: 'instant'})")
    return browser


def test_viewer_opens_at_the_peak_of_the_strongest_heatmap(viewer: Browser) -> None:
    assert viewer.run(SLICE) == "4"
    assert viewer.run("return document.getElementById('where').textContent") == "FLAIR · MR: Axial slice 4 of 6"


def test_wheel_scrolls_through_slices(viewer: Browser) -> None:
    box = viewer.run("const b = document.getElementById('slice').getBoundingClientRect(); return [b.x + 50, b.y + 50]")

    viewer.scroll(round(box[0]), round(box[1]), -100)

    viewer.wait(f"{SLICE} === '5'")


def test_arrow_keys_and_p_move_through_slices(viewer: Browser) -> None:
    viewer.run("document.getElementById('slice').focus()")

    viewer.press("\ue015")  # arrow down
    assert viewer.run(SLICE) == "3"
    viewer.press("\ue010")  # end
    assert viewer.run(SLICE) == "6"
    viewer.press("p")

    assert viewer.run(SLICE) == "4"


def test_opacity_and_outlines_change_the_picture(viewer: Browser) -> None:
    pictures = {viewer.run(PIXELS)}

    viewer.run("const o = document.getElementById('opacity'); o.value = 0; o.dispatchEvent(new Event('input'))")
    pictures.add(viewer.run(PIXELS))
    viewer.run("document.getElementById('outlines').click()")
    pictures.add(viewer.run(PIXELS))

    assert len(pictures) == 3


def test_series_and_plane_can_be_switched(viewer: Browser) -> None:
    viewer.run("const s = document.getElementById('series'); s.value = '0'; s.dispatchEvent(new Event('change'))")
    viewer.wait(f"{READY} === '0'")
    viewer.run("const p = document.getElementById('plane'); p.value = 'coronal'; p.dispatchEvent(new Event('change'))")

    text = viewer.run("return document.getElementById('where').textContent")
    assert text.startswith("T1 · MR: Coronal slice 23 of 32")


def test_lesion_at_the_patients_right_front_is_drawn_upper_left(viewer: Browser) -> None:
    viewer.run("const o = document.getElementById('opacity'); o.value = 0; o.dispatchEvent(new Event('input'))")
    viewer.run("const p = document.getElementById('preset'); p.value = 'full'; p.dispatchEvent(new Event('change'))")
    # Medians, because the white letters at the edges are bright, too.
    centre = viewer.run(
        "const c = document.getElementById('slice'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "const x = [], y = [], middle = (all) => all.sort((a, b) => a - b)[all.length >> 1];"
        "for (let p = 0; p < c.width * c.height; p++)"
        "  if (d[4 * p] > 150) { x.push(p % c.width); y.push(Math.floor(p / c.width)); }"
        "return [middle(x) / c.width, middle(y) / c.height]"
    )

    # The lesion's centre is (31, 23) of 40 x 32 voxels, seen from the upper right corner.
    assert centre[0] == pytest.approx(1 - 31 / 40, abs=0.06)
    assert centre[1] == pytest.approx(1 - 23 / 32, abs=0.06)


def test_page_breaks_none_of_its_own_rules(viewer: Browser) -> None:
    assert viewer.complaints() == []


@pytest.mark.bad_input("I6")
def test_without_scripts_the_key_slices_and_numbers_are_there(browser: Browser, page: Path) -> None:
    browser.open(page, scripts=False)

    shown = browser.run("return document.body.innerText")
    pictures = browser.run(
        "return [...document.images].filter(one => one.complete && one.naturalWidth > 100 && one.width > 0).length"
    )

    assert "0.97" in shown
    assert "The viewer needs scripts" in shown
    assert browser.run("return document.getElementById('viewer').hidden") is True
    assert pictures == 5  # one in the summary, two pairs


@pytest.mark.bad_input("D4")
@pytest.mark.parametrize("with_text", [False, True])
def test_hostile_text_stays_text(browser: Browser, tmp_path: Path, with_text: bool) -> None:
    report = build_case_report(make_explanation(lambda text: text + HOSTILE))
    path = report.save(tmp_path, formats=["html"], include_report_text=with_text).html
    assert path is not None

    browser.open(path)
    browser.wait(READY)

    assert browser.run("return window.hacked === undefined && document.querySelectorAll('script').length === 3")
    assert browser.run("return [...document.images].every(one => one.src.startsWith('data:'))")
    assert "{{7*7}}" in browser.run("return document.body.innerText")
    requests = "performance.getEntriesByType('resource').filter(one => !one.name.startsWith('data:')).length"
    assert browser.run(f"return {requests}") == 0
    assert browser.complaints() == []


def test_draft_can_be_edited_and_copied_as_text(viewer: Browser) -> None:
    viewer.run("document.getElementById('draft-edit').click()")
    viewer.run("document.querySelector('#draft-text li').firstChild.textContent = 'Edited by hand. '")
    viewer.run("document.getElementById('draft-copy').click()")

    text = viewer.wait("return document.getElementById('draft-text').dataset.copied")
    assert viewer.run("return document.getElementById('draft-text').isContentEditable")
    assert text.splitlines()[0] == "Report on case-1"
    assert "\nFINDINGS\n- Edited by hand.\n- " in text
    assert "- Side: Right side, very likely (probability 0.97).\n" in text
    assert viewer.complaints() == []


def test_narrow_page_does_not_scroll_sideways(browser: Browser, page: Path) -> None:
    browser.open(page, width=500)

    assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")


def test_cohort_table_sorts_and_filters(browser: Browser, tmp_path: Path) -> None:
    rows = [result_row(make_explanation(case_id=name).diagnosis) for name in ("case-10", "case-9", "case-2")]
    browser.open(write_index(tmp_path, rows, {}))
    rows_shown = "[...document.querySelectorAll('#table tbody tr')].filter(row => !row.hidden)"
    cases = f"return {rows_shown}.map(row => row.cells[0].innerText)"

    browser.run("document.querySelector('#table th button').click()")
    assert browser.run(cases) == ["case-2", "case-9", "case-10"]
    browser.run("const f = document.getElementById('filter'); f.value = '10'; f.dispatchEvent(new Event('input'))")

    assert browser.run(cases) == ["case-10"]
    assert browser.complaints() == []


def test_cohort_table_keeps_what_a_column_is_chosen_to_hold(browser: Browser, tmp_path: Path) -> None:
    rows = [result_row(make_explanation(case_id=name).diagnosis) for name in ("case-1", "case-2")]
    rows[1] = {**rows[1], "side": "left"}
    browser.open(write_index(tmp_path, [*rows, refused_row("case-3", "series.gap")], {}))
    rows_shown = "[...document.querySelectorAll('#table tbody tr')].filter(row => !row.hidden)"
    shown = f"{rows_shown}.map(row => row.cells[0].innerText)"

    def choose(number: int, value: str) -> list[str]:
        script = (
            "const s = document.querySelectorAll('#filter-bar select')[arguments[0]]; s.value = arguments[1];"
            f"s.dispatchEvent(new Event('change')); return {shown}"
        )
        return list(browser.run(script, number, value))

    assert choose(0, "refused") == ["case-3"]
    assert choose(0, "") == ["case-1", "case-2", "case-3"]
    assert choose(1, "left") == ["case-2"]
    assert browser.complaints() == []
