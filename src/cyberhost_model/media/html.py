"""Render HTML pages in one file: they fetch nothing, and hold their pictures and clips themselves.

Pages are jinja2 templates that extend `templates/page.html.j2`: its layout, its style for light and dark, and a
Content-Security-Policy that forbids every fetch and every script but the page's own. Values are escaped; a name that a
template uses and nobody gave is an error.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from markupsafe import Markup

_LAYOUT = Path(__file__).with_name("templates")
_JPEG_QUALITY = 82


def render_page(
    template: Path,
    styles: Sequence[Path] = (),
    script: str = "",
    filters: Mapping[str, Callable[..., Any]] | None = None,
    sources: Mapping[str, str] | None = None,
    **values: object,
) -> str:
    """Render a template that extends `page.html.j2`, with the templates beside it at hand.

    styles: files of CSS after the common one. script: JavaScript that may run on the page. filters: for the templates,
    beside jinja2's own and `data_uri`. sources: what the Content-Security-Policy allows a served page beside what it
    allows a file, by directive, such as {"connect-src": "'self'"}. values: what the template shows. Raises jinja2's
    errors for a broken template.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, _LAYOUT]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": data_uri, **(filters or {})}
    style = "".join(path.read_text(encoding="utf-8") for path in (_LAYOUT / "page.css", *styles))
    page = environment.get_template(template.name).render(
        values, style=Markup(style), script=Markup(script), policy=_content_security_policy(script, sources or {})
    )
    return f"{page}\n"


def _content_security_policy(script: str, sources: Mapping[str, str]) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    directives = {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "media-src": "data:",
        "script-src": f"'sha256-{digest}'" if script else "'none'",
    }
    for name, allowed in sources.items():
        directives[name] = f"{directives[name]} {allowed}" if name in directives else allowed
    return "; ".join(f"{name} {allowed}" for name, allowed in directives.items())


def data_uri(data: bytes, kind: str) -> str:
    """Return an address that holds a file itself. kind: its MIME type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def jpeg(picture_u8: np.ndarray, height: int) -> bytes:
    """Encode a picture (H, W, 3), RGB, as a JPEG of that height."""
    h, w = picture_u8.shape[:2]
    small = cv2.resize(picture_u8, (max(1, round(w * height / h)), height), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
