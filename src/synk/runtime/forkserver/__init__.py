"""What runs in the process that imports the handlers, and forks and reaps the workers."""
