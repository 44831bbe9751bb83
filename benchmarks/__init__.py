"""Runnable comparisons with other people's software: `python -m benchmarks.inference | training | scaling`."""
