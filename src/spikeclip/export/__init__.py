"""Exchange with other people's formats."""
