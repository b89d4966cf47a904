"""Proofs of where a flow goes: claims, their proof in ball arithmetic, and files of them."""
