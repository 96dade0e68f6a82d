"""A Markdown page to sections: what generators of sites add to it, and the HTML within it."""
