"""What a training will need on a machine that is not here: its own train step, compiled for that machine."""
