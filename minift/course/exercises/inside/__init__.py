"""Looking inside a model: where numbers come from, and when they are settled."""
