"""The folder of a run: its workdir, its checkpoints, its progress."""
