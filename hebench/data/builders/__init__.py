"""The programs that made two of the packaged sets; they are not needed to use them."""
