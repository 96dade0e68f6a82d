"""What the values of other trainers' names mean: their data sets, and all else."""
