"""The flow against discrete descent: `compare`, and what it finds."""

from flowsim.comparing.compare import compare as compare
from flowsim.comparing.result import Comparison as Comparison
from flowsim.comparing.result import Descended as Descended
