"""The paper's figures, drawn: data in, files out."""
