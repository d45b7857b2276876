"""Measures (model, data) -> numbers, the sweep over layers, and the report."""
