"""What decides: pure state machines and codecs, without clock, I/O, threads or chance."""
