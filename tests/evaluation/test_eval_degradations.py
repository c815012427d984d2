"""Degraded videos, measured from the file on: each measure moves as its definition says.

The degradations are those of docs/reference/evaluation.md.
"""

from __future__ import annotations

import eval_degradations
import pytest

from cyberhost_model.lab.evaluation.run import evaluate

OFFLINE = ("SSIM", "PSNR", "CSIM", "AKD", "HKV")
FRAMES = 16


@pytest.fixture(scope="module")
def clips():
    """A person both of whose hands are seen and move, and somebody else."""
    return eval_degradations.render_speakers((5, 1), FRAMES)


@pytest.fixture(scope="module")
def measure(clips, tmp_path_factory):
    """The first person's clip, made worse -> results. The ground truth is looked at once."""
    folder = tmp_path_factory.mktemp("degradations")
    truth = eval_degradations.write_videos(folder / "truth", clips[:1])

    def results(way: str = "", step: float = 0.0):
        made = (
            eval_degradations.write_videos(
                folder / f"{len(list(folder.iterdir()))}", eval_degradations.degrade(clips, way, step)[:1]
            )
            if way
            else truth
        )
        return evaluate(
            made, truth, metrics=OFFLINE, networks="embedded", download=False, cache=folder / "features", device="cpu"
        ).results

    return results


@pytest.fixture(scope="module")
def itself(measure):
    return measure()


def test_the_ground_truth_is_its_own_best(itself):
    values = {m.name: m.value for m in itself.metrics}
    assert (
        values["SSIM"] == pytest.approx(1)
        and values["PSNR"] == 100
        and values["AKD"] == 0
        and values["CSIM"] > 0.9
        and values["HKV"] > 1
    )


@pytest.mark.parametrize(
    "way",
    [
        "noise, deviation",
        "blur, sigma",
        "another person, share",
        "shift, pixels",
        "frozen hands, share",
        "jitter, pixels",
    ],
)
def test_every_step_is_noticed(measure, itself, way):
    _, steps, expected = eval_degradations.DEGRADATIONS[way]
    wanted = {name: sign for name, sign in expected.items() if name in OFFLINE}
    runs = [itself, *(measure(way, step) for step in (steps[0], steps[-1]))]
    assert wanted and eval_degradations.moves_as_defined(runs, wanted) == dict.fromkeys(wanted, True), [
        eval_degradations.format_values(run, list(wanted)) for run in runs
    ]


def test_what_does_not_move_is_not_called_steady(itself):
    assert eval_degradations.moves_as_defined(
        [itself, itself], {"SSIM": eval_degradations.DOWN, "FID": eval_degradations.UP}
    ) == {"SSIM": False, "FID": False}
