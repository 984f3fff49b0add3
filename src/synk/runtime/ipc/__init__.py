"""What both ends share: packets, the setup, the calls of Linux."""
