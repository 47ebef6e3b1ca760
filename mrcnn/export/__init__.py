"""Networks as files of other runtimes, each compared with `detect` before it is kept."""
