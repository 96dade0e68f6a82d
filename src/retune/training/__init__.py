"""Training: supervised fine-tuning that resumes from sealed checkpoints, bit for bit."""
