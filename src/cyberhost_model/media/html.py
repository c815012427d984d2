"""Pages in one file: an HTML document that fetches nothing, with its pictures and films inside it."""

from __future__ import annotations

import base64
import hashlib
import html

import cv2
import numpy as np

STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#545d68;--paper:#fff;--line:#d8dde3;--tint:#f4f6f8;--accent:#1f5fbf;--other:#b4540a}
@media(prefers-color-scheme:dark){:root{--ink:#e3e7ec;--soft:#a4adb7;--paper:#15181c;--line:#363d45;--tint:#1e2328;--accent:#7fb2ff;--other:#f0a35e}}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}p.where{color:var(--soft);margin:0;overflow-wrap:anywhere}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(10rem,1fr));gap:.75rem;margin:1rem 0}
.fact,figure{border:1px solid var(--line);border-radius:6px;padding:.6rem .8rem;margin:0}.fact b{display:block;font-size:1.25rem;overflow-wrap:anywhere}
figcaption{font-size:.8rem;color:var(--soft);margin-top:.4rem;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid var(--line)}
th.n,td.n{text-align:right;font-variant-numeric:tabular-nums}svg text{font:11px system-ui,sans-serif;fill:var(--soft)}
"""
"""The look all pages share, for light and dark; `--accent` and `--other` are for what is drawn."""


def document(title: str, body: str, style: str = "", script: str = "") -> str:
    """An HTML document.

    `title` is text, `body` HTML. `script` may run and nothing else can: the page's own policy forbids it, and every
    fetch.
    """
    runs = f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" if script else "'none'"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; script-src {runs}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title><style>{STYLE}{style}</style></head><body>\n"
        f"{body}\n{f'<script>{script}</script>' if script else ''}</body></html>\n"
    )


def data_uri(kind: str, data: bytes) -> str:
    """A file of a MIME type as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def facts(values: dict[str, str]) -> str:
    """Label -> figure, as a row of boxes."""
    boxes = (
        f'<div class="fact"><b>{html.escape(value)}</b>{html.escape(label)}</div>' for label, value in values.items()
    )
    return f'<div class="facts">{"".join(boxes)}</div>'


def jpeg(picture_u8: np.ndarray, height: int) -> bytes:
    """A picture (H, W, 3), RGB, as a JPEG of that height."""
    h, w = picture_u8.shape[:2]
    small = cv2.resize(picture_u8, (max(1, round(w * height / h)), height), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
