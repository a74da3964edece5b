"""`report.pdf`: the pages that the report prints as, made by WeasyPrint from the same HTML (extra `pdf`)."""

from types import ModuleType

from medmm.errors import UsageError
from medmm.report.content import CaseReport

# `system-ui` is no font of its own here, and a font for Chinese would set wide quotation marks into English.
_FONTS = {
    "en": 'body { font-family: "Noto Sans", "DejaVu Sans", "Liberation Sans", Arial, sans-serif !important }',
    "zh": 'body { font-family: "Noto Sans CJK SC", "Source Han Sans SC", "SimSun", sans-serif !important }',
}


def load_weasyprint() -> ModuleType:
    """Return the library.

    Raises:
        UsageError: `config.key` where the system library that it draws text with cannot be loaded.
    """
    try:
        import weasyprint
    except OSError:
        raise UsageError(
            "The formats 'pdf' and 'epdf' need the system library Pango, which cannot be loaded.",
            code="config.key",
            remedy="Install it (on Debian: apt-get install libpango-1.0-0 libpangoft2-1.0-0).",
        ) from None
    return weasyprint


def render_pdf(report: CaseReport, *, lang: str = "en", include_report_text: bool = False) -> bytes:
    """The PDF of a case's report. Nothing is fetched; fonts are those of the machine."""
    weasyprint = load_weasyprint()
    from weasyprint.urls import URLFetcher

    from medmm.report.html import render_case

    page = render_case(report, lang=lang, include_report_text=include_report_text, has_viewer=False)
    fonts = weasyprint.CSS(string=_FONTS.get(lang, ""))
    nothing_outside = URLFetcher(allowed_protocols=("data",), allow_redirects=False, fail_on_errors=True)
    return bytes(weasyprint.HTML(string=page, url_fetcher=nothing_outside).write_pdf(stylesheets=[fonts]))
