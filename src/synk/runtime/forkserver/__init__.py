"""What runs in the process that imports the handlers, forks the workers, and buries them."""
