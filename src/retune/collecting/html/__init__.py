"""An HTML page to sections: what is its text, what is not and why, and its blocks as Markdown."""
