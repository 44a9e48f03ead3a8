"""From embeddings to clusters, one method a file."""

from vemosaic.clustering.clusters import Clusters, assign
from vemosaic.clustering.kmeans import fit_kmeans, stream_kmeans

__all__ = ["Clusters", "assign", "fit_kmeans", "stream_kmeans"]
