"""What the API server knows of this node's pods and of who is behind an address; the only room that knows kubernetes."""
