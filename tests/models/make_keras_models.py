"""Writes foreign/keras_*.onnx: what tf2onnx makes of small Keras networks, with Keras' results.

    python tests/models/make_keras_models.py

Needs tensorflow, tf2onnx and onnx, in an environment of their own. Made with tensorflow 2.21, keras 3.15, tf2onnx 1.17,
onnx 1.23.
"""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from foreign import write

keras.utils.set_random_seed(1)


def convert(net, x, name, opset):
    """Through a function of a fixed signature, tf2onnx's most stable door."""
    signature = [tf.TensorSpec((None, *x.shape[1:]), tf.float32, name="x")]
    function = tf.function(lambda x: net(x, training=False), input_signature=signature)
    model, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=opset)
    write(name, model, x, np.asarray(net(x, training=False)))


mlp = keras.Sequential(
    [
        keras.layers.Input((4,)),
        keras.layers.Dense(6, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(5, activation="tanh"),
        keras.layers.Dense(3),
    ]
)
cnn = keras.Sequential(
    [
        keras.layers.Input((6, 6, 2)),
        keras.layers.Conv2D(3, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(2),
        keras.layers.Conv2D(4, 2, activation="relu"),
        keras.layers.AveragePooling2D(2),
        keras.layers.Flatten(),
        keras.layers.Dense(2),
    ]
)
generator = np.random.default_rng(0)
for norm in mlp.layers:
    if isinstance(norm, keras.layers.BatchNormalization):
        norm.set_weights([generator.uniform(0.5, 1.5, w.shape) for w in norm.get_weights()])
convert(mlp, generator.normal(size=(40, 4)).astype(np.float32), "keras_mlp", 17)
convert(cnn, generator.normal(size=(12, 6, 6, 2)).astype(np.float32), "keras_cnn", 15)
