"""What the library does on one GPU: correct, how fast, with how much memory, and against whom."""
