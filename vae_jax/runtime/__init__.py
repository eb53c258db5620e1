"""The processes of a run: devices, sharding, randomness, several processes, signals, compiled programs."""
