"""The corpus rules as datatrove blocks: the only package that imports datatrove.

From it come the executors (with their record of completed tasks), the base classes, the reader of
Hugging Face datasets and MinHash. Three of its parts are replaced, for reasons:

- its readers of files log a damaged line and go on; ours stops and names file and line;
- its MinHash splits words with a downloaded model, hashes n-grams one by one and holds (words x
  hashes) numbers at a time; ours needs no model, and bounded memory for any document;
- its logs go to the terminal; ours go into the run folder.
"""
