"""Before the first part: getting to know ``check``."""
