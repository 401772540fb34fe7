"""Model families, one a file, and their way from and to Hugging Face's checkpoints."""
