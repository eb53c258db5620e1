"""The process that a run lives in: devices, sharding, randomness, several processes, signals, compiled programs."""
