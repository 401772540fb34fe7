"""Text generation: the key/value cache and decoding."""
