"""Attention, piece by piece."""
