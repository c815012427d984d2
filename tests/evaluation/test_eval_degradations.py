"""Videos made worse in steps, measured from the file on: each measure moves where its definition says.

The same ways as in docs/reference/evaluation.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cyberhost_model.lab.evaluation.run import evaluate

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
OFFLINE = ("SSIM", "PSNR", "CSIM", "AKD", "HKV")
FRAMES = 16


@pytest.fixture(scope="module")
def ways():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        import eval_degradations

        yield eval_degradations


@pytest.fixture(scope="module")
def clips(ways):
    """A person both of whose hands are seen and move, and somebody else."""
    return ways.films((5, 1), FRAMES)


@pytest.fixture(scope="module")
def measure(ways, clips, tmp_path_factory):
    """The first person's clip, made worse -> results. The ground truth is looked at once."""
    folder = tmp_path_factory.mktemp("degradations")
    truth = ways.write(folder / "truth", clips[:1])

    def results(way: str = "", step: float = 0.0):
        made = (
            ways.write(folder / f"{len(list(folder.iterdir()))}", ways.worsened(clips, way, step)[:1]) if way else truth
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
def test_every_step_is_noticed(ways, measure, itself, way):
    _, steps, expected = ways.WAYS[way]
    wanted = {name: sign for name, sign in expected.items() if name in OFFLINE}
    runs = [itself, *(measure(way, step) for step in (steps[0], steps[-1]))]
    assert wanted and ways.steady(runs, wanted) == dict.fromkeys(wanted, True), [
        ways.shown(run, list(wanted)) for run in runs
    ]


def test_what_does_not_move_is_not_called_steady(ways, itself):
    assert ways.steady([itself, itself], {"SSIM": ways.DOWN, "FID": ways.UP}) == {"SSIM": False, "FID": False}
