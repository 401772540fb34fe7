"""The encoder-decoder, piece by piece."""
