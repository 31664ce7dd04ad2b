"""From what a session carries to a span that joins the right trace."""
