"""What a run of `mpgen fit` needs of its machines, counted from its config without data, weights or GPUs."""
