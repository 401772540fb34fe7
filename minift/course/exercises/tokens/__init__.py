"""Exercises on tokens."""
