"""A run on disk: its workdir, checkpoints and progress."""
