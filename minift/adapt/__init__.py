"""Parameter-efficient fine-tuning methods, one a file."""
