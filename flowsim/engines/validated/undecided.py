"""What cannot be proved."""

from __future__ import annotations

from flint import arb


class Undecided(ArithmeticError):  # noqa: N818 - it is an outcome, not a fault
    """Something about the flow is not proved.

    Parameters
    ----------
    reason : str
        What, as the beginning of a sentence.
    tau : arb
        Where, from the start of the step; whoever knows the time of the step adds it.
    neuron, plane : int
        Whom it concerns, -1 where that is nobody.
    final : bool
        Whether more precision would not help.
    """

    def __init__(
        self, reason: str, tau: arb, neuron: int = -1, plane: int = -1, *, final: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason, self.tau, self.neuron, self.plane = reason, tau, neuron, plane
        self.final = final
