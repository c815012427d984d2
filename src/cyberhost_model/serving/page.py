"""The page on which a picture is made to speak: a form over `/v1/videos` and a live tab over `/v1/sessions`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

from cyberhost_model.driving.template import template_names
from cyberhost_model.media.html import render_page
from cyberhost_model.media.output_form import OutputForm
from cyberhost_model.options import Option, options_of
from cyberhost_model.serving.making import BACKGROUND, SUBTITLES
from cyberhost_model.serving.settings import ServedModel, ServingConfig, SessionOptions, VideoOptions
from cyberhost_model.serving.uploads import FILES

_TEMPLATES = Path(__file__).with_name("templates")
_SCRIPTS = ("video.js", "live.js")
_FIRST = ("seed", "size", "gesture", "head")
"""Options that are shown at once; the others are folded."""
_FILES = {
    BACKGROUND: "A picture for the background, in the place of a colour; it fills the frame.",
    SUBTITLES: options_of(OutputForm)["subtitles"].help,
}
"""Files that may be left out, with their help."""
_SOURCES = {
    "connect-src": "'self'",
    "img-src": "blob:",
    "media-src": "blob:",
    "script-src": "blob:",  # the page's own code that runs beside the microphone
    "base-uri": "'none'",
    "form-action": "'none'",
}


class Field(NamedTuple):
    """One option as an element of the form."""

    name: str
    help: str
    kind: str
    """"number", "text", "choice" or "file"."""
    choices: tuple[str, ...] = ()
    """Words, or endings of names of files."""
    placeholder: str = ""
    min: float | None = None
    max: float | None = None
    step: str = "any"
    live: bool = True
    """A live session has it too."""

    @property
    def label(self) -> str:
        """The name in words."""
        return self.name.replace("_reference", " picture").replace("_", " ")


def page(config: ServingConfig, model: ServedModel) -> str:
    """Render the page."""
    live = options_of(SessionOptions)
    fields = {name: _field(name, rule)._replace(live=name in live) for name, rule in options_of(VideoOptions).items()}
    fields |= {name: Field(name, help, "file", FILES[name], live=False) for name, help in _FILES.items()}
    return render_page(
        _TEMPLATES / "video.html.j2",
        styles=[_TEMPLATES / "video.css"],
        script="".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        sources=_SOURCES,
        model=model.name,
        first=[fields[name] for name in _FIRST],
        more=[field for name, field in fields.items() if name not in _FIRST],
        limits=f"At most {config.max_upload} MiB and {config.max_seconds:g} seconds of speech.",
        keep_hours=f"{config.keep_hours:g}",
    )


def _field(name: str, rule: Option) -> Field:
    hint: Any = get_type_hints(VideoOptions)[name]
    kinds, default = get_args(hint) or (hint,), getattr(VideoOptions, name)
    if name == "gesture":
        return Field(name, rule.help, "choice", tuple(template_names()))
    if bool in kinds:
        choices = ("yes", "no") if default is None else ("no",) if default else ("yes",)
        return Field(name, rule.help, "choice", choices)
    shown = "" if default is None else f"{default:g}" if isinstance(default, float) else f"{default}"
    if rule.parse is not None:
        return Field(name, rule.help, "text", placeholder=shown or rule.metavar or "")
    return Field(name, rule.help, "number", (), shown, rule.min, rule.max, "1" if int in kinds else "any")
