"""Vocabulary: words become synsets.

To be read in this order: ``words`` (spelling, and words in running text), ``wordnet``, ``synsets``
(the 1,000 of ImageNet, or own labels). ``colors`` are terms beside synsets.
"""
