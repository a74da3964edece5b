"""`report.pdf`: the pages that the report prints as, made by WeasyPrint from the same HTML (extra `pdf`)."""

from medmm.report.content import CaseReport

# `system-ui` is no font of its own here, and a font for Chinese would set wide quotation marks into English.
_FONTS = {
    "en": 'body { font-family: "Noto Sans", "DejaVu Sans", "Liberation Sans", Arial, sans-serif !important }',
    "zh": 'body { font-family: "Noto Sans CJK SC", "Source Han Sans SC", "SimSun", sans-serif !important }',
}


def render_pdf(report: CaseReport, *, lang: str = "en", include_report_text: bool = False) -> bytes:
    """The PDF of a case's report. Nothing is fetched; fonts are those of the machine."""
    import weasyprint
    from weasyprint.urls import URLFetcher

    from medmm.report.html import render_case

    page = render_case(report, lang=lang, include_report_text=include_report_text, has_viewer=False)
    fonts = weasyprint.CSS(string=_FONTS.get(lang, ""))
    nothing_outside = URLFetcher(allowed_protocols=("data",), allow_redirects=False, fail_on_errors=True)
    return bytes(weasyprint.HTML(string=page, url_fetcher=nothing_outside).write_pdf(stylesheets=[fonts]))
