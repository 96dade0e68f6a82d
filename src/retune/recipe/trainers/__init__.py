"""Names that other trainers have for what a recipe says, and for what it does otherwise."""
