"""From embeddings to clusters, one method a file."""

from vemosaic.clustering.clusters import Clusters, assign
from vemosaic.clustering.kmeans import fit_kmeans, stream_kmeans
from vemosaic.clustering.words import Words, code_words, find_words

__all__ = ["Clusters", "Words", "assign", "code_words", "find_words", "fit_kmeans", "stream_kmeans"]
