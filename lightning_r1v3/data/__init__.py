"""Shards to samples to packed batches."""
