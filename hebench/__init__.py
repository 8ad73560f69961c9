"""hebench: is this Hebrew language model better than that one, and how sure are we?"""

__version__ = "0.1.0"
