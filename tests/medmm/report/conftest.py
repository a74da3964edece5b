"""What report tests share: an explained case, and a browser where Chromium is installed."""

import shutil
from collections.abc import Iterator
from types import ModuleType

import pytest
from report_browser import Browser, start_browser
from report_examples import make_explanation

from medmm.errors import UsageError
from medmm.report.pdf import load_weasyprint
from medmm.results import Explanation


@pytest.fixture
def explanation() -> Explanation:
    """The small explained case."""
    return make_explanation()


@pytest.fixture
def weasyprint() -> ModuleType:
    """WeasyPrint; the test skips where it, or the system library that it draws text with, is not installed."""
    try:
        return load_weasyprint()
    except ImportError:
        pytest.skip("the extra `pdf` (weasyprint) is not installed")
    except UsageError:
        pytest.skip("the system library Pango is not installed")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium; the test skips where it or its driver is not installed."""
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    with start_browser(chromium, driver) as running:
        yield running
