"""What pages have in common: templates with autoescape, and a content policy that allows their own code only."""

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")
_NONE = "'none'"
# Control characters and marks that turn the direction of text: never useful in a report, and they can disguise words.
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def render_page(
    template: str, *, style: str, scripts: tuple[str, ...], folder: Path = TEMPLATES, **values: object
) -> str:
    """A self-contained page; `style` and `scripts` name files of our templates folder, put inline, allowed by hash.

    `folder` is where the template is looked for first.
    """
    styles, codes = asset(style), [asset(name) for name in scripts]
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(styles)}; "
        f"script-src {' '.join(map(_hash, codes)) or _NONE}; base-uri 'none'; form-action 'none'"
    )
    inline = {"policy": policy, "style": Markup(styles), "scripts": [Markup(code) for code in codes]}
    return _environment(folder).get_template(template).render(**inline, **values)


def render_fragment(template: str, **values: object) -> str:
    """A piece of HTML for a page of somebody else's (a notebook); no style, no script."""
    return _environment(TEMPLATES).get_template(template).render(**values)


@cache
def asset(name: str) -> str:
    """A style sheet or script of ours, as it stands in the page."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def json_island(values: Any) -> Markup:
    """Data for a script, for inside `<script type="application/json">`: no character in it can end the element."""
    text = json.dumps(values, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def shown(value: object) -> object:
    """The value as a page shows it: characters that nobody can see become the replacement character."""
    return _UNSEEN.sub("�", value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment(folder: Path) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _hash(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode('utf-8')).digest()).decode('ascii')}'"
