"""Several machines, played by processes: what deploy/ describes, and what happens while its parts are replaced."""
