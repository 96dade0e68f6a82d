"""What other trainers and older tutorials call things, and what it means in a recipe today."""
