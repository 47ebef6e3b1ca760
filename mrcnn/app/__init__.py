"""The command `mrcnn`."""
