"""Embeddings and positions."""
