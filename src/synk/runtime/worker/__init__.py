"""What runs in a worker process: its main function, its loop, and what is put back after a job."""
