"""Benchmarks: scenarios as data, an open-loop generator in its own process, reports."""
