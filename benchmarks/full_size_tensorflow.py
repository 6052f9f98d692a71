"""Networks of SHIVA's families, made and run by TensorFlow, for ``imported_models.py``.

    python benchmarks/full_size_tensorflow.py make FOLDER
    python benchmarks/full_size_tensorflow.py run MODEL IMAGE.npy OUTPUT.npy

The layers of v1 are known; of v2 only that it is a U-Net with residual blocks and filters that grow
by 1.5 from 8.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

SHAPE = (160, 214, 176)
RUNS = 2


def v1_like() -> keras.Model:
    def block(value, n_filters):
        value = layers.Conv3D(n_filters, 3, padding="same", use_bias=False)(value)
        value = layers.BatchNormalization(epsilon=1e-3)(value)
        return layers.Activation("swish")(value)

    return _u_net(lambda v, n: block(block(v, n), n), block, (10, 18, 32, 58, 104, 187, 337))


def v2_like() -> keras.Model:
    def block(value, n_filters):
        shortcut = layers.Conv3D(n_filters, 1, padding="same", use_bias=False)(value)
        for number in range(2):
            value = layers.Conv3D(n_filters, 3, padding="same", use_bias=False)(value)
            value = layers.BatchNormalization()(value)
            if number == 0:
                value = layers.Activation("swish")(value)
        return layers.Activation("swish")(layers.Add()([value, shortcut]))

    filters = tuple(round(8 * 1.5**level) for level in range(9))[:7]
    return _u_net(block, None, filters)


def _u_net(block, wide_block, filters) -> keras.Model:
    image = value = layers.Input((*SHAPE, 1))
    skips = []
    for n_filters in filters[:-1]:
        value = block(value, n_filters)
        skips.append(value)
        value = layers.MaxPooling3D(2)(value)
    value = block(value, filters[-1])
    for n_filters, skip in zip(reversed(filters[:-1]), reversed(skips), strict=True):
        value = layers.UpSampling3D(2)(value)
        missing = [b - a for a, b in zip(value.shape[1:4], skip.shape[1:4], strict=True)]
        value = layers.ZeroPadding3D([(n // 2, n - n // 2) for n in missing])(value)
        value = layers.Concatenate()([value, skip])
        if wide_block is None:
            value = block(value, n_filters)
        else:
            value = wide_block(wide_block(value, int(value.shape[-1])), n_filters)
    if wide_block is not None:
        value = wide_block(wide_block(value, filters[0]), filters[0])
    return keras.Model(image, layers.Conv3D(1, 1, activation="sigmoid")(value))


def settle(model: keras.Model) -> None:
    """Statistics of batch normalization that are not those of an untrained network."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        if "variance" in weight.path or "gamma" in weight.path:
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
        elif "mean" in weight.path or "beta" in weight.path:
            weight.assign(generator.normal(0, 0.1, weight.shape))


def make(folder: Path) -> None:
    keras.utils.set_random_seed(0)
    first, second = v1_like(), v2_like()
    settle(first)
    settle(second)
    first.save(folder / "v1.h5", include_optimizer=False)
    second.export(folder / "v2", verbose=False)


def run(model: Path, image_path: Path, output_path: Path) -> None:
    image = np.load(image_path)[None, ..., None]
    if model.is_dir():
        loaded = tf.saved_model.load(str(model))
        infer = loaded.signatures["serving_default"]
        (name,) = infer.structured_input_signature[1]

        def predict(batch):
            return next(iter(infer(**{name: tf.constant(batch)}).values())).numpy()
    else:
        network = keras.models.load_model(model, compile=False)

        def predict(batch):
            return network.predict(batch, batch_size=1, verbose=0)

    seconds = []
    for number in range(RUNS + 1):
        start_s = time.monotonic()
        output = predict(image)
        if number > 0:
            seconds.append(time.monotonic() - start_s)
    np.save(output_path, output[0, ..., 0])
    print(json.dumps({"seconds": seconds, "peak_gib": peak_gib()}))


def peak_gib() -> float:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


if __name__ == "__main__":
    action, *paths = sys.argv[1:]
    make(Path(paths[0])) if action == "make" else run(*map(Path, paths))
