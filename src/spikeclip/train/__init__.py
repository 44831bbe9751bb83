"""One training loop, the four stages of a run, and the training of a small teacher."""
