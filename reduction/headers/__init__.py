"""What the header of a raw frame says: instrument definitions and the facts they give."""
