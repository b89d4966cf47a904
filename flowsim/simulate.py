"""simulate(): run the gradient flow of a network on data until it is known where it goes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from flowsim._event_rows import EVENT_BYTES
from flowsim.data import Dataset
from flowsim.engines.record import Progress
from flowsim.options import MAX_STEPS, STATE_BYTES, checked
from flowsim.runs import Run, prepare, run_alone, run_together
from flowsim.runs.saving import CHECKPOINT_SECONDS, Saving
from flowsim.solution import RunError, Solution

if TYPE_CHECKING:
    from flowsim.engines.descent.config import Descent
    from flowsim.engines.diffrax import Diffrax
    from flowsim.engines.piecewise.config import Piecewise
    from flowsim.engines.scipy import Scipy
    from flowsim.engines.validated.config import Validated

    Engine = Piecewise | Diffrax | Scipy | Descent | Validated


def simulate(
    net: Any,
    data: Dataset | None = None,
    *,
    engine: Engine | None = None,
    events: Sequence[Callable[[float, Any], Any]] = (),
    t1: float = float("inf"),
    rtol: float = 1e-12,
    residual: str = "full",
    loss: str = "half_mean",
    stationary_rtol: float = 1e-11,
    end: str | None = None,
    alignment: str = "residual",
    alignment_threshold: float = 1e-3,
    alignment_epsilon: float | None = None,
    max_steps: int | None = None,
    max_seconds: float = float("inf"),
    states: str | None = None,
    state_bytes: int = STATE_BYTES,
    event_bytes: int = EVENT_BYTES,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    progress: Callable[[Progress], None] | None = None,
    throw: bool = False,
) -> Solution:
    """Integrate the gradient flow of the loss of `net` on `data` to its certified end, or rest.

    With ``r_k = y_k - h(x_k)`` and ``D_j = (1/n) sum_k c_jk r_k x_k``, ``c_jk`` the
    (leaky) ReLU's slope at ``w_j . x_k``, the flow of ``L = (1/2n) sum_k r_k^2`` is

        a_j' = w_j . D_j,     w_j' = a_j D_j,

    a differential inclusion where ``w_j . x_k = 0``, of which the element of minimal
    norm is followed.

    Other models are any differentiable ones: ``theta' = -grad L(theta)``, by `Diffrax` or `Scipy`.

    Parameters
    ----------
    net : TwoLayerReLU, or a model
        The initialisation. A model is one of `flowsim.models`, an equinox module of one input,
        or a pair (loss function, parameters); see `flowsim.models.Objective`.
    data : Dataset
        None for a loss function.
    engine : Piecewise, Diffrax, Scipy, Descent or Validated
        Of `flowsim.engines`; by default `Piecewise` for a TwoLayerReLU, else `Diffrax`. `Descent`
        takes discrete steps instead of following the flow; `Validated` encloses the flow of a
        small network rigorously up to a finite `t1`.
    events : sequence of functions ``g(t, model)``
        As in `scipy.integrate.solve_ivp`, with what `Solution.network` returns for the model: a
        number or an array, whose zeros are recorded as
        "user" events (neuron = index of the function, sample = index of the component, before
        and after = signs); attributes ``direction`` and ``terminal``. A zero at the start is
        none, since a run may go on from where an event has ended another.
    t1 : float
        Latest time; infinite by default: until what `end` says.
    rtol : float
        Local error of a step relative to every neuron and to y, in [1e-15, 1e-2].
    residual : {"full", "frozen"}
        "frozen" keeps ``r = y`` (early alignment); it never rests, so give `t1`.
    loss : {"half_mean", "mean"}
        ``(1/2n) sum r^2`` or torch's ``(1/n) sum r^2``, whose time runs twice as fast.
    stationary_rtol : float
        The flow is at rest when every living neuron's ``||D_j||`` is below this times
        ``max_k |y_k| ||x_k||`` and the residual is at the least-squares residual of
        the occupied cells. Of other models: when the rate ``||theta'||/||theta||`` is below
        this times its largest value so far, and the Hessian confirms it. 0 switches this off.
        With Diffrax and Scipy at least 8 rtol, since errors keep the rates above that.
    end : {"certificate", "rest"}, optional
        What ends a run of the piecewise engine before `t1`. "certificate", by default if `t1` is
        infinite: a proof, in ball
        arithmetic, that the flow from here never leaves its cells and where its loss tends
        (`Final.certificate`): `Final.limit_loss` is the limit then, while `Final.network` and
        `Final.loss` are those of the state that the proof is of. "rest", by default if `t1` is
        finite, `stationary_rtol` is 0 or there are `events`: the flow has come to rest, and the
        proof is tried there. Runs that cannot be proved end at rest, too.
    alignment : {"residual", "growth", "theory"}
        What ends the early alignment phase: ``||r - y||`` first reaches `alignment_threshold`
        times ``||y||``; some neuron has grown by the factor λ^(-epsilon); or the theory's
        time, ``epsilon ln(1/λ) / max ||D||``. Sources: `flowsim.alignment.end.DEFINITIONS`.
        Models other than TwoLayerReLU have "residual" (where they have data) and "growth".
    alignment_threshold : float
        Of "residual".
    alignment_epsilon : float, optional
        Of the other two, and of the predicted time; 1 by default for "residual", else 1/4.
    max_steps, max_seconds : int, float
        Budgets; a run that exhausts one says so. The time to compile counts, and calls of
        compiled code end before it is looked at. By default `max_steps` is 1 000 000, or the
        `steps` of a `Descent` if those are more; else the smaller of both ends it.
    states : {"all", "log", "ends"}, optional
        Which states are stored, from which dense output restarts: those of all steps, 32 in a
        decade of time, or none; the start and the end always. While they exceed
        `state_bytes`, every second one is dropped. Dense output of a TwoLayerReLU is as
        accurate with few, but takes as long as the run from the state before. By default "all",
        and "log" if fewer than 64 states fit into `state_bytes`. Other models have "all".
    state_bytes : int
        Memory for stored states, 32 MiB by default, beside the start, the end and one more.
    event_bytes : int
        Memory for the events of a TwoLayerReLU, 1 GiB by default (56 million events); more are
        in temporary files, onto which the solution's arrays are then mapped.
    checkpoint : path-like, optional
        A file to save the run to while it goes on, as a solution with the status "running",
        and at its end; `flowsim.resume` goes on from it. Ctrl-C saves the run, too.
        Piecewise and Descent only.
    checkpoint_seconds : float
        Seconds of computing between two saves; the first one is made at once.
    progress : callable, optional
        Called a few times a second with a `Progress`.
    throw : bool
        Raise `RunError` (with the solution) when the run failed.

    Returns
    -------
    Solution
        With `status` and `message` that say why the run stopped.

    Raises
    ------
    ValueError, TypeError
        For arguments that make no sense, before anything is computed.
    OSError
        If the checkpoint cannot be written.
    RunError
        With ``throw=True``.
    """
    if end is None and events:
        end = "rest"  # events may come after the proof
    settings = checked(
        t1=t1, rtol=rtol, residual=residual, loss=loss, stationary_rtol=stationary_rtol, end=end,
        alignment=alignment, alignment_threshold=alignment_threshold,
        alignment_epsilon=alignment_epsilon, max_seconds=max_seconds,
        state_bytes=state_bytes, states=states, event_bytes=event_bytes,
        max_steps=_budget(engine) if max_steps is None else max_steps,
    )  # fmt: skip
    saving = Saving.of(checkpoint, checkpoint_seconds)
    run = prepare(net, data, engine, settings, events, progress, saving)
    solution = run_alone(run)
    if throw and solution.failed:
        raise RunError(solution)
    return solution


def _budget(engine: Any) -> int:
    """Return the number of steps to give a run up after unless one is given."""
    asked = getattr(engine, "steps", None)
    return MAX_STEPS if asked is None else max(asked, MAX_STEPS)


def simulate_batch(
    nets: Sequence[Any],
    data: Dataset | None = None,
    *,
    engine: Diffrax | None = None,
    events: Sequence[Callable[[float, Any], Any]] = (),
    throw: bool = False,
    **options: Any,
) -> list[Solution]:
    """Integrate the flows of independent initialisations together, each with its own steps.

    Steps of all runs with the same shapes are taken by one vectorised (``jax.vmap``) call.

    Parameters
    ----------
    nets : sequence of TwoLayerReLU, or of models
        The initialisations; those of one shape and architecture share compiled code.
    data : Dataset
    engine : Diffrax
    events : sequence of functions
        One that raises ends the whole batch.
    throw : bool
        Raise `RunError` for the first run that failed, once all have ended.
    **options
        Of `simulate`, but for `progress` and `checkpoint`.

    Returns
    -------
    list of Solution
        In the order of `nets`, each as `simulate` would return it.

    Raises
    ------
    ValueError, TypeError
        As `simulate`; before anything is computed.
    RunError
        With ``throw=True``.
    """
    from flowsim.engines.diffrax import Diffrax

    engine = Diffrax() if engine is None else engine
    if not isinstance(engine, Diffrax):
        raise TypeError(
            f"Argument `engine` must be a Diffrax for a batch, but is of type "
            f"{type(engine).__name__}."
        )
    for name in options:
        if name not in inspect.signature(checked).parameters:
            raise TypeError(f"simulate_batch() got an option that it does not have, {name!r}.")
    if isinstance(nets, tuple) and len(nets) == 2 and callable(nets[0]):
        nets = [nets]  # one loss function with its parameters
    if not isinstance(nets, list | tuple):
        raise TypeError(
            f"Argument `nets` must be a list of networks, but is of type {type(nets).__name__}."
        )
    settings = checked(**options)
    runs: list[Run] = [prepare(net, data, engine, dict(settings), events, None) for net in nets]
    solutions = run_together(runs)
    for solution in solutions:
        if throw and solution.failed:
            raise RunError(solution)
    return solutions
