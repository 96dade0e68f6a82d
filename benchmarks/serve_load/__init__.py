"""What a server answers under load, how long its clients wait, and what is lost of it: nothing."""
