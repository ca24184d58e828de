"""What happens beside training, one callback per file."""
