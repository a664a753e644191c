"""A compiled model, divided between clients and a server. Names, arguments and order of calls are Concrete ML's.

FHEModelDev("deployed", module).save()             # where the model is made: client.zip and server.zip

client = FHEModelClient("deployed", key_dir="keys")
client.generate_private_and_evaluation_keys()
keys = client.get_serialized_evaluation_keys()     # bytes for the server, once

server = FHEModelServer("deployed")
results = server.run(client.quantize_encrypt_serialize(x), keys)

y = client.deserialize_decrypt_dequantize(results)

docs/deployment.md says what either half holds and what it does not.
"""

from .fhe_model import DeploymentMode, FHEModelClient, FHEModelDev, FHEModelServer

__all__ = ["DeploymentMode", "FHEModelClient", "FHEModelDev", "FHEModelServer"]
