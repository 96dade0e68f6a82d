"""llama.cpp's file format: families that can be written in it, and proof that a file is right."""
