"""The program that made the packaged grammar pairs; it is not needed to use them."""
