"""The event-driven Taylor engine for two-layer (leaky) ReLU networks.

In an activation cell the flow is polynomial, so Taylor coefficients of any order
follow from short recurrences (`expansion`); every margin and slide multiplier is then a
polynomial whose first root is isolated (`detection`, `roots`), and the flow restarts in the cell
that Filippov's rules select (`flowsim.selection`). See docs/engine.md.
"""

from flowsim.engines.piecewise.driver import integrate as integrate
from flowsim.engines.piecewise.integrator import Integrator as Integrator
from flowsim.engines.piecewise.trajectory import Trajectory as Trajectory
