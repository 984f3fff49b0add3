"""What acts: a room for each process, and one for what they share.

`supervisor` holds the engine and the loops, `forkserver` imports the handlers and forks the
workers, `worker` runs jobs, `ipc` is what both ends of a channel know. Inside of `synk` itself
there is no place for the third: `synk.worker` is the decorator.
"""
