"""Publishing a model on the Hub: its card, filled from what the folder says, and the upload."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cyberhost_model.config import Preset
from cyberhost_model.errors import ModelError
from cyberhost_model.hub.errors import translated_errors
from cyberhost_model.hub.progress import format_size
from cyberhost_model.hub.repository import split_hub_id
from cyberhost_model.hub.tensors import read_shapes
from cyberhost_model.media.files import link_or_copy
from cyberhost_model.model.checkpoint import check_network, read_untrained
from cyberhost_model.reading import Unreadable, convert, is_file, one_line, read_json

CARD = "README.md"
PUBLISHED = ("*.json", "*.safetensors", "*.onnx", CARD)
"""What is uploaded of a folder; a pickle that lies in it stays where it is."""
HEARING = ("audio-to-video", "lip-sync", "audio-driven")
"""Tags of a model that hears; the Hub knows image-to-video as a pipeline, and these as what people look for."""
SOURCES = "sources.json"
"""Written by `weights assemble` and `convert`: what a model was made of.

A list of {part, from, revision, licence, commercial}.
"""
_EXAMPLES = {
    "animate": ("speech.wav", '"speech.wav"'),
    "multimodal": ("--audio speech.wav --hands wave", '"speech.wav", "wave"'),
    "reenact": ("driving.mp4", '"driving.mp4"'),
}
"""Setting of the paper -> what it takes beside the picture, on the command line and in Python."""


def publish(
    folder: str | Path,
    repo: str,
    *,
    licence: str | None = None,
    private: bool | None = False,
    message: str | None = None,
    token: str | None = None,
    revision: str | None = None,
    create_pr: bool | None = None,
) -> str:
    """Upload the model in `folder` to the Hub repository "user/name", made if there is none.

    Returns the address of the commit. A README.md in the folder is its card; without one a card is written there
    first, under `licence` (a Hub licence name such as "apache-2.0"). token, revision and create_pr: see
    `HfApi.upload_folder`. Raises ModelError for a folder that is no model, a card without a licence and a repository
    that may not be written, and NetworkError.
    """
    folder = Path(folder)
    split_hub_id(repo)
    preset = check_network(folder)
    if not (folder / CARD).is_file():
        if licence is None:
            raise ModelError(
                f"{folder} has no {CARD}; name the licence of the model with --licence, and a card is written"
            )
        (folder / CARD).write_text(card(folder, preset, repo, licence), encoding="utf-8")
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with translated_errors(repo, "published"):
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=list(PUBLISHED),
            commit_message=message or f"Model of preset {preset.name}",
            revision=revision,
            create_pr=create_pr,
        )
    return str(commit.commit_url)


def gather(source: Path, out: Path, put: Callable[[Path, Path], object] = link_or_copy) -> None:
    """Lay out what is published of the model in `source` in the folder `out`.

    put: what makes a file of one of `source`; by default it is a link where the system has them.
    """
    for file in sorted({file for pattern in PUBLISHED for file in source.rglob(pattern)}):
        target = out / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        put(file, target)


def copy_model(source: Path, out: Path) -> None:
    """Copy what is published of the model in `source` into the folder `out`."""
    gather(source, out, shutil.copyfile)


def card(folder: Path, preset: Preset, repo: str, licence: str) -> str:
    """Write the model card: metadata of the Hub, parts with their parameters, diffusion, use, sources and licences."""
    from huggingface_hub import ModelCardData

    sources = read_sources(folder)
    bases = sorted(
        {source["from"] for source in sources if "/" in source["from"] and not source["from"].startswith("http")}
    )
    data = ModelCardData(
        license=licence,
        library_name="cyberhost",
        pipeline_tag="image-to-video",
        tags=["cyberhost", *(HEARING if preset.uses_audio else ()), "talking-head", "talking-body", preset.name],
        base_model=bases or None,
    )
    diffusion, sampling = preset.diffusion, preset.sampling
    untrained = read_untrained(folder)
    off = [name for name, on in vars(preset.ablations).items() if not on]
    on_command_line, in_python = _EXAMPLES[preset.task]
    return "\n".join(
        [
            f"---\n{data.to_yaml()}\n---\n",
            f"# {repo.split('/')[1]}\n",
            "A CyberHost model (arXiv 2409.01876): one picture of a person and a recording of speech become a video "
            "of that person speaking.\n",
            "```bash",
            f"cyberhost {preset.task} ref.png {on_command_line} --model {repo} -o out.mp4",
            "```\n",
            "```python",
            "from cyberhost_model import CyberHost",
            f'CyberHost.from_pretrained("{repo}").{preset.task}("ref.png", {in_python}).save("out.mp4")',
            "```\n",
            f"| part | parameters | size |\n|---|---:|---:|\n{_parts(folder)}\n",
            f"Preset `{preset.name}`: {preset.size[1]}x{preset.size[0]}, clips of {preset.frames} frames with "
            f"{preset.motion_frames} motion frames, "
            f"codec `{preset.codec}`. The network predicts `{diffusion.prediction}`; default sampler "
            f"{sampling.sampler} with {sampling.steps} steps, "
            f"guidance {sampling.guidance_reference:g} (reference) and {sampling.guidance_audio:g} (audio)."
            + (f" Built without: {', '.join(off)}." if off else "")
            + (f" Never trained: {', '.join(untrained)}; a beginning for training." if untrained else "")
            + "\n",
            "## Made of\n",
            f"{_sources(sources)}\n",
            "## Use\n",
            "Make videos only of people who agreed to it, and say that they are made. Do not use this to deceive.",
            *(
                ["", "**Not for commercial use**: a part it is made of forbids it."]
                if not all(s.get("commercial", True) for s in sources)
                else []
            ),
            "",
        ]
    )


def read_sources(folder: Path) -> list[dict[str, Any]]:
    """Read what a model was made of, empty where nothing says it. Raises ModelError for a damaged file."""
    path = folder / SOURCES
    if not is_file(path):
        return []
    try:
        sources: list[dict[str, Any]] = convert(list[dict[str, Any]], read_json(path), "it")
        for source in sources:
            for name, kind in (("part", str), ("from", str), ("licence", str), ("revision", str | None)):
                convert(kind, source.get(name), name)
        return sources
    except (OSError, Unreadable) as error:
        raise ModelError(f"{path} cannot be read ({one_line(error)}); delete it, or make the model again") from None


def _parts(folder: Path) -> str:
    rows = [
        f"| {path.relative_to(folder).as_posix()} | {_parameters(path):,} | {format_size(path.stat().st_size)} |"
        for path in sorted(folder.rglob("*.safetensors"))
    ]
    return "\n".join(rows)


def _parameters(path: Path) -> int:
    """Numbers in a safetensors file, from its header alone."""
    try:
        return sum(map(math.prod, read_shapes(path).values()))
    except (OSError, Unreadable) as error:
        raise ModelError(f"{path} {one_line(error)}; get the model again") from None


def _sources(sources: list[dict[str, Any]]) -> str:
    if not sources:
        return "Trained with `cyberhost train`."
    rows = [
        f"| {s['part']} | {s['from']}{'@' + s['revision'][:8] if s.get('revision') else ''} | {s['licence']} |"
        for s in sources
    ]
    return "\n".join(["| part | from | licence |", "|---|---|---|", *rows])
