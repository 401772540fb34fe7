"""The clinic: finding what is wrong with a model."""
