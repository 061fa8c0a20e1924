"""Tables 1 to 3, measured beside published: built from records, written as Markdown, CSV and LaTeX."""
