"""One training loop and the four stages it runs."""
