"""Mixtures of experts, piece by piece."""
