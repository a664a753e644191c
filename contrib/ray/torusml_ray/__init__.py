"""TorusML over a Ray cluster: a batch spread over workers, and an HTTP deployment with Ray Serve (docs/scaling.md).

The folder contrib/ray is on the Python path of the driver and of the workers (PYTHONPATH, or py_modules of Ray's runtime
environment), and so is torusml.
"""

from .spread import RayServer

__all__ = ["RayServer"]
