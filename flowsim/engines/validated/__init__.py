"""The flow by Taylor series in ball arithmetic: rigorous, or to any number of digits."""
