"""What runs many trainings: the demo, ablations, sweeps, and the comparison of text towers."""
