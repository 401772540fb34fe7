"""The transformer block and GPT-2."""
