"""The modern decoder, piece by piece."""
