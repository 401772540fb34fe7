"""Datasets, the file formats of the field, and collation into batches."""
