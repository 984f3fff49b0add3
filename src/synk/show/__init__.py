"""What the command line and the demo show on a terminal, as rich's tables and texts."""
