"""Files from the disk and from strangers, read within limits and written whole."""
