"""A model of ours on the Hub: its card, filled from what the folder says, and the upload."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from cyberhost_model.config import Preset
from cyberhost_model.errors import ModelError
from cyberhost_model.hub.errors import explained
from cyberhost_model.hub.progress import human
from cyberhost_model.hub.repository import split
from cyberhost_model.model.checkpoint import check_network

CARD = "README.md"
PUBLISHED = ("*.json", "*.safetensors", "*.onnx", CARD)
"""What is uploaded of a folder; a pickle that lies in it stays where it is."""
SOURCES = "sources.json"
"""Written by `weights assemble` and `convert`: what a model was made of, a list of {part, from, revision, licence,
commercial}.
"""


_EXAMPLES = {
    "animate": ("speech.wav", '"speech.wav"'),
    "multimodal": ("--audio speech.wav --hands wave", '"speech.wav", "wave"'),
    "reenact": ("driving.mp4", '"driving.mp4"'),
}
"""Setting of the paper -> what it takes beside the picture, on the command line and in Python."""


def publish(
    folder: str | Path, repo: str, *, licence: str | None = None, private: bool = False, message: str | None = None
) -> str:
    """Upload the model in `folder` to the Hub repository "user/name", made if there is none; the address of the
    commit.

    A README.md in the folder is its card; without one a card is written there first, under `licence` (a Hub licence
    name such as "apache-2.0"). Raises ModelError for a folder that is no model, a card without a licence and a
    repository that may not be written, and NetworkError.
    """
    folder = Path(folder)
    split(repo)
    preset = check_network(folder)
    if not (folder / CARD).is_file():
        if licence is None:
            raise ModelError(
                f"{folder} has no {CARD}; name the licence of the model with --licence, and a card is written"
            )
        (folder / CARD).write_text(card(folder, preset, repo, licence), encoding="utf-8")
    from huggingface_hub import HfApi

    api = HfApi()
    with explained(repo, "published"):
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=list(PUBLISHED),
            commit_message=message or f"Model of preset {preset.name}",
        )
    return str(commit.commit_url)


def card(folder: Path, preset: Preset, repo: str, licence: str) -> str:
    """The model card: metadata of the Hub, parts with their parameters, diffusion, use, sources and their licences."""
    from huggingface_hub import ModelCardData

    sources = read_sources(folder)
    bases = sorted(
        {source["from"] for source in sources if "/" in source["from"] and not source["from"].startswith("http")}
    )
    data = ModelCardData(
        license=licence,
        library_name="cyberhost",
        pipeline_tag="image-to-video",
        tags=["cyberhost", "talking-body", "audio-driven", preset.name],
        base_model=bases or None,
    )
    diffusion, sampling = preset.diffusion, preset.sampling
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
    """What a model was made of, empty where nothing says it. Raises ModelError for a damaged file."""
    path = folder / SOURCES
    if not path.is_file():
        return []
    try:
        return list(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}); delete it, or make the model again") from None


def _parts(folder: Path) -> str:
    rows = [
        f"| {path.relative_to(folder).as_posix()} | {_parameters(path):,} | {human(path.stat().st_size)} |"
        for path in sorted(folder.rglob("*.safetensors"))
    ]
    return "\n".join(rows)


def _parameters(path: Path) -> int:
    """Numbers in a safetensors file, from its header alone."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())


def _sources(sources: list[dict[str, Any]]) -> str:
    if not sources:
        return "Trained with `cyberhost train`."
    rows = [
        f"| {s['part']} | {s['from']}{'@' + s['revision'][:8] if s.get('revision') else ''} | {s['licence']} |"
        for s in sources
    ]
    return "\n".join(["| part | from | licence |", "|---|---|---|", *rows])
