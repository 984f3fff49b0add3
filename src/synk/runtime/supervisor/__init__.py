"""What runs in the supervisor's process: the engine, the worker set, and the loops."""
