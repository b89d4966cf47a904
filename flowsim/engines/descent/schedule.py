"""Checks of code that the user gives: schedules of learning rates, and optax transformations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowsim._jax import x64

#: A pytree of arrays.
Tree = Any


def check_schedule(schedule: Callable[[Any], Any]) -> None:
    """Check that a schedule can be compiled, and begins with a rate.

    Raises
    ------
    TypeError
        If JAX cannot trace it, or it does not return a number.
    ValueError
        If its first rate is none.
    """
    with x64():
        step = jnp.zeros((), jnp.int64)
        try:
            shape = jax.eval_shape(lambda k: jnp.asarray(schedule(k), jnp.float64), step).shape
        except Exception as error:  # whatever the user's code raises
            raise TypeError(
                "Argument `learning_rate` must be a function of the step that JAX can trace, with "
                "jax.numpy.where in place of if, or math, but raises "
                f"{type(error).__name__} when traced."
            ) from error
        if shape != ():
            raise TypeError(
                "Argument `learning_rate` must be a function that returns a number, but returns an "
                f"array of shape {shape}."
            )
        check_rate(float(schedule(step)), 0)


def check_rate(rate: float, step: int) -> None:
    """Check a schedule's rate of a step; 0 is one, since schedules warm up from there.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not 0.0 <= rate < float("inf"):
        raise ValueError(
            "Argument `learning_rate` must give rates that are finite and not negative, but gives "
            f"{rate:g} at step {step}."
        )


def check_transformation(transformation: Any, params: Tree) -> None:
    """Check that an optax transformation needs nothing but gradients, its state and parameters.

    Raises
    ------
    TypeError
        If it needs more, such as losses for a line search.
    """
    try:
        jax.eval_shape(lambda p: transformation.update(p, transformation.init(p), p), params)
    except Exception as error:  # whatever the user's code raises
        raise TypeError(
            "Argument `optimizer` must be a transformation of optax that needs no more than "
            "gradients and parameters, and no line search, but its update raises "
            f"{type(error).__name__} with these."
        ) from error


def own_rate(transformation: Any, params: Tree) -> float:
    """Return the length of a transformation's first step along a gradient of ones.

    Raises
    ------
    ValueError
        If it is no step down: a warm-up begins with none.
    """
    ones = jax.tree.map(jnp.ones_like, params)
    change, _ = transformation.update(ones, transformation.init(params), params)
    moved = np.concatenate([np.asarray(u, np.float64).ravel() for u in jax.tree.leaves(change)])
    rate = float(-np.mean(moved))
    if not 0.0 < rate < float("inf"):
        raise ValueError(
            "Argument `learning_rate` must be given, as a number or a schedule, with an optimizer "
            f"whose first step has no length that time could count, here {rate + 0.0:g}, but is "
            "None."
        )
    return rate
