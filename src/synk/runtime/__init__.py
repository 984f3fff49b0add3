"""What acts: processes, threads, signals, and the loop that carries out the pool's decisions."""
