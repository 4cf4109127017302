"""The schema of a training run."""
