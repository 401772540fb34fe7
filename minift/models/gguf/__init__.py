"""GGUF files: llama.cpp's format, read and dequantised into an ordinary checkpoint."""
