"""One run of a study as a record: numbers and words, the same on any machine and any day."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.experiments import measures
from flowsim.experiments.points import Point, Recipe
from flowsim.network import LOSSES

if TYPE_CHECKING:
    from flowsim.solution import Solution

#: Rows of a run's history that are kept, at most.
TRAJECTORY_ROWS = 256


@dataclass(frozen=True)
class Field:
    """A number, or a word, of a record."""

    text: str
    kind: type = float
    missing: Any = float("nan")


def _count(text: str) -> Field:
    return Field(text, int, -1)


def _word(text: str) -> Field:
    return Field(text, str, "")


#: The fields of a record, in the order of the tables.
FIELDS = {
    "status": _word("why the run stopped; error if it could not be made"),
    "message": _word("the same as a sentence"),
    "kind": _word("verdict on the end"),
    "proved": _count("1 if the verdict is proved, 0 if not, -1 where it cannot be"),
    "train_loss": Field("(1/2n) sum r^2 at the end"),
    "limit_loss": Field("where the training loss tends in the final cells; nan if not at rest"),
    "label_loss": Field("(1/2n) sum y^2"),
    "test_loss": Field("(1/2) E (h(x) - y)^2"),
    "excess_loss": Field("(1/2) E (h(x) - beta* x)^2"),
    "ols_loss": Field("training loss of the half-spaces' least-squares fits"),
    "ols_excess": Field("excess loss of the half-spaces' least-squares fits"),
    "ols_distance": Field("sqrt E (h - half-spaces' least-squares fits)^2"),
    "plus_error": Field("|grad h(beta*) - beta*|"),
    "plus_ols_error": Field("|grad h(beta*) - its half-space's fit|"),
    "minus_error": Field("|grad h(-beta*) - beta*|"),
    "minus_ols_error": Field("|grad h(-beta*) - its half-space's fit|"),
    "linear_excess": Field("excess loss of linear least squares on all samples"),
    "ntk_excess": Field(
        "excess loss of relu's minimum-norm interpolator in the tangent kernel's space"
    ),
    "random_features_excess": Field("the same of random features of relu"),
    "directions": _count("distinct directions of neurons that matter"),
    "alignment_end": Field("end of early alignment"),
    "alignment_predicted": Field("its prediction"),
    "extremal_count": _count("extremal vectors that neurons tend to in early alignment"),
    "extremal_spread": Field("largest distance of these from the population's"),
    "alive": _count("neurons alive at the end"),
    "changes": _count("activation-pattern changes"),
    "events": _count("all events"),
    "steps": _count("steps"),
    "t_end": Field("time of the end"),
    "gradient_norm": Field("norm of the gradient at the end"),
    "seconds": Field("computing time, compilation included"),
}
#: Fields that files of older studies lack.
ADDED = frozenset({"proved"})
#: Fields that differ from one computation to the next.
COST = ("seconds",)


def run_points(points: Sequence[Point], recipe: Recipe) -> list[dict[str, Any]]:
    """Return the records of some runs, each on one thread; none raises."""
    return [run_point(point, recipe) for point in points]


def run_point(point: Point, recipe: Recipe) -> dict[str, Any]:
    """Run one point and return its record; an exception becomes the status "error".

    On one thread, so that sums have one order wherever the run is made.
    """
    started = time.perf_counter()
    with _one_thread():
        try:
            record = _measured(recipe.simulate(point, **_cheap(point)), point, recipe)
        except (Exception, SystemExit, GeneratorExit) as error:  # the run's matter: others go on
            record = {"status": "error", "message": _text(error)}
    return record | {"seconds": time.perf_counter() - started}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep linear algebra and compiled loops to one thread, in a block."""
    from numba import get_num_threads, set_num_threads
    from threadpoolctl import threadpool_limits

    before = get_num_threads()
    with threadpool_limits(1):
        set_num_threads(1)
        try:
            yield
        finally:
            set_num_threads(before)


def _text(error: BaseException) -> str:
    """Return what an exception says and where it comes from, in characters that files take."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    try:
        said = str(error)
    except Exception:
        said = "an error that says nothing"
    text = f"{said} ({type(error).__name__} in {last.name})"
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _cheap(point: Point) -> dict[str, Any]:
    """Return options without which a study would store what it does not look at."""
    return {"states": "ends"} if point.activation == "relu" else {}


def _measured(solution: Solution, point: Point, recipe: Recipe) -> dict[str, Any]:
    data, network = solution.data, solution.final.network
    excess = measures.excess_loss(network, data)
    noise = data.noise if data.noise is not None else float("nan")
    half = 0.5 / LOSSES[solution.settings["loss"]]
    record: dict[str, Any] = {
        "status": solution.status,
        "message": solution.message,
        "kind": solution.final.kind,
        "proved": -1 if (proof := solution.final.certificate) is None else int(proof.proved),
        "train_loss": half * solution.final.loss,
        "limit_loss": half * solution.final.limit_loss,
        "label_loss": 0.5 * float(np.mean(np.square(data.y))),
        "test_loss": excess + 0.5 * noise**2,
        "excess_loss": excess,
        "alive": int(solution.history.alive[-1]),
        "changes": len(solution.events.where("pattern").t),
        "events": len(solution.events),
        "steps": solution.steps,
        "t_end": solution.t_end,
        "gradient_norm": solution.final.gradient_norm,
    }
    if recipe.test is not None:
        record |= _tested(network, recipe.test(data), noise)
    record |= measures.half_space_fields(network, data, point.negative_slope)
    record |= measures.baseline_fields(data, point.init, point.activation, point.negative_slope)
    record |= measures.alignment_fields(solution, data)
    if hasattr(network, "W"):
        record["directions"] = measures.direction_count(network)
    if recipe.trajectories:
        record["trajectory"] = _trajectory(solution)
    return record


def _tested(network: Any, test: Any, noise: float) -> dict[str, float]:
    """Return losses on a given test set, whose labels have no noise."""
    error = measures.function_of(network)(test.X) - test.y
    excess = 0.5 * float(np.mean(np.square(error)))
    return {"excess_loss": excess, "test_loss": excess + 0.5 * noise**2}


def _trajectory(solution: Solution) -> dict[str, list[float]]:
    """Return times, losses and living neurons, thinned evenly to at most 256 rows."""
    history = solution.history
    rows = np.unique(np.linspace(0, len(history.t) - 1, TRAJECTORY_ROWS).astype(int))
    return {
        "t": history.t[rows].tolist(),
        "loss": history.loss[rows].tolist(),
        "alive": history.alive[rows].tolist(),
    }
