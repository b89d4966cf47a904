"""Discrete descent: gradient descent, momentum, Adam and any optax optimizer, step by step."""
