"""Engines: how the flow is integrated. One file or folder an engine."""
