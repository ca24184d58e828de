"""What this machine has: its speed, its number formats, its memory."""
