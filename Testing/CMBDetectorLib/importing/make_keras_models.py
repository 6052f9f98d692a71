"""Write the stand-in Keras models of the tests, with what TensorFlow computes with them.

Needs an environment of its own, with TensorFlow, Keras 3 and Keras 2 (``pip install tensorflow
tf-keras``); the tests themselves need none of them::

    python Testing/CMBDetectorLib/importing/make_keras_models.py --output FOLDER

Each model is ``NAME.zip``, which holds ``NAME.h5`` (or ``fold``, a SavedModel), and ``NAME.npz``,
with ``image`` and ``output`` (batch, i, j, k, channels) and the versions. Outputs are computed in
single precision, whatever policy the model has.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras as keras3
import numpy as np
import tensorflow as tf
import tf_keras as keras2

SHAPE = (12, 14, 10)


def v1_like(keras, filters=(2, 2, 3)):
    """The family of SHIVA's v1, with few filters: swish, dropout, odd sizes at the bottom."""
    layers = keras.layers

    def block(value, n_filters):
        value = layers.Conv3D(n_filters, 3, padding="same", use_bias=False)(value)
        value = layers.BatchNormalization(epsilon=1e-3)(value)
        return layers.Activation("swish")(value)

    image = value = layers.Input((*SHAPE, 1))
    skips = []
    for n_filters in filters[:-1]:
        value = block(block(value, n_filters), n_filters)
        skips.append(value)
        value = layers.Dropout(0.1)(layers.MaxPooling3D(2)(value))
    value = block(block(value, filters[-1]), filters[-1])
    for n_filters, skip in zip(reversed(filters[:-1]), reversed(skips), strict=True):
        value = layers.UpSampling3D(2)(value)
        missing = [b - a for a, b in zip(value.shape[1:4], skip.shape[1:4], strict=True)]
        value = layers.ZeroPadding3D([(n // 2, n - n // 2) for n in missing])(value)
        value = layers.Concatenate()([value, skip])
        value = block(block(value, int(value.shape[-1])), n_filters)
    value = block(block(value, 2), 2)
    # The last layer of a model of mixed precision is in single precision.
    value = layers.Conv3D(1, 1, activation="sigmoid", dtype="float32")(value)
    return keras.Model(image, value)


def every_layer(keras, *, is_keras3):
    """Each layer that can be read, at least once."""
    layers = keras.layers
    image = layers.Input((*SHAPE, 2))
    a = layers.Conv3D(4, (3, 2, 4), strides=2, padding="same", activation="relu")(image)
    a = layers.Conv3D(4, 3, dilation_rate=2, padding="same", groups=2)(a)
    a = layers.LeakyReLU()(a)
    a = layers.PReLU(shared_axes=[1, 2, 3])(a)
    b = layers.Conv3DTranspose(4, 3, strides=2, padding="same", activation="elu")(a)
    c = layers.Conv3DTranspose(4, 2, strides=2, padding="valid", activation="selu")(a)
    d = layers.Conv3DTranspose(4, 2, strides=(3, 2, 2), padding="valid", use_bias=False)(a)
    d = layers.Cropping3D(((2, 4), (0, 0), (0, 0)))(d)
    e = layers.Conv3DTranspose(4, 4, strides=1, padding="same")(image)
    value = layers.Add()([b, c, layers.Subtract()([d, e])])
    value = layers.Maximum()([value, layers.Minimum()([b, c])])
    value = layers.Average()([value, layers.Multiply()([b, e]), c])
    pooled = layers.AveragePooling3D(3, strides=2, padding="same")(value)
    pooled = layers.Concatenate(axis=-1)([pooled, layers.MaxPooling3D(3, 2, padding="same")(value)])
    pooled = layers.LayerNormalization()(pooled)
    squeezed = layers.GlobalAveragePooling3D()(pooled)
    largest = layers.GlobalMaxPooling3D(keepdims=True)(pooled)
    squeezed = layers.Dense(3, activation="gelu")(squeezed)
    squeezed = layers.Dense(8, activation="sigmoid")(squeezed)
    squeezed = layers.Reshape((1, 1, 1, -1))(squeezed)
    pooled = layers.Multiply()([pooled, squeezed])
    pooled = layers.Add()([pooled, largest])
    pooled = layers.ELU(0.7)(layers.SpatialDropout3D(0.2)(pooled))
    pooled = layers.ReLU(max_value=3.0)(layers.GaussianNoise(0.1)(pooled))
    pooled = layers.GroupNormalization(groups=4)(pooled)
    pooled = layers.GroupNormalization(groups=-1)(pooled)
    pooled = layers.Rescaling(0.5, 0.1)(pooled)
    pooled = layers.Activation("softplus")(pooled)
    pooled = layers.Activation("softsign")(pooled)
    if is_keras3:
        pooled = layers.Activation("leaky_relu")(pooled)
    pooled = layers.Activation("tanh")(layers.ReLU(negative_slope=0.1)(pooled))
    value = layers.Concatenate()([layers.UpSampling3D((2, 2, 2))(pooled), value])
    value = layers.Conv3D(3, 3, padding="valid", activation="linear")(value)
    value = layers.ZeroPadding3D(1)(layers.BatchNormalization(scale=False)(value))
    value = layers.BatchNormalization(center=False)(value)
    value = layers.Conv3D(2, 1)(value)
    return keras.Model(image, layers.Softmax()(value))


def shared_layer(keras):
    """One convolution used twice, which makes two results of it."""
    layers = keras.layers
    image = layers.Input((*SHAPE, 1))
    conv = layers.Conv3D(1, 3, padding="same")
    return keras.Model(image, layers.Activation("sigmoid")(conv(conv(image))))


def sequential(keras):
    layers = keras.layers
    model = keras.Sequential([layers.Conv3D(2, 3, padding="same"), layers.ReLU()])
    model.add(layers.Conv3D(1, 1, activation="sigmoid"))
    model.build((None, *SHAPE, 1))
    return model


def with_lambda(keras):
    layers = keras.layers
    image = layers.Input((*SHAPE, 1))
    return keras.Model(image, layers.Lambda(lambda x: x * 2)(image))


def unsupported(keras):
    layers = keras.layers
    image = layers.Input((*SHAPE, 1))
    return keras.Model(image, layers.Activation("hard_sigmoid")(image))


def two_inputs(keras):
    layers = keras.layers
    images = [layers.Input((*SHAPE, 1)), layers.Input((*SHAPE, 1))]
    return keras.Model(images, layers.Add()(images))


def open_shape(keras):
    layers = keras.layers
    image = layers.Input((None, None, None, 1))
    return keras.Model(image, layers.Conv3D(1, 3, padding="same", activation="sigmoid")(image))


def dark_spots(keras):
    """Finds voxels that are darker than what is around them; its weights are not random."""
    layers = keras.layers
    image = layers.Input((None, None, None, 1))
    model = keras.Model(image, layers.Conv3D(1, 9, padding="same", activation="sigmoid")(image))
    offset = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"))
    distance = np.sqrt((offset**2).sum(axis=0))
    center, shell = distance <= 1, (distance > 3) & (distance <= 4)
    kernel = 40.0 * (shell / shell.sum() - center / center.sum())
    model.set_weights([kernel[..., None, None].astype(np.float32), np.array([-10.5], np.float32)])
    return model


def settle(model, seed):
    """Weights that are all different, statistics of batch normalization among them."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        name = getattr(weight, "path", weight.name)
        shape = tuple(weight.shape)
        if "variance" in name or "gamma" in name:
            values = generator.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            values = generator.normal(0, 1.5 / np.sqrt(np.prod(shape[:-1])), shape)
        else:
            values = generator.normal(0, 0.3, shape)
        weight.assign(values.astype(np.float32))


def store(folder, name, model, reference, seed):
    channels = model.inputs[0].shape[-1]
    image = np.random.default_rng(seed).random((1, *SHAPE, channels), dtype=np.float32)
    output = None if reference is None else np.asarray(reference(image, training=False))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"{name}.h5"
        model.save(path, include_optimizer=False)
        # A fixed time, so that the same model makes the same file.
        entry = zipfile.ZipInfo(path.name, (2026, 1, 1, 0, 0, 0))
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
    versions = f"TensorFlow {tf.__version__}, Keras {keras3.__version__}, {keras2.__version__}"
    if output is not None:
        np.savez_compressed(
            folder / f"{name}.npz", image=image, output=output, versions=np.array(versions)
        )


def store_saved_model(folder, name, model):
    """The same network as SHIVA's v2 comes, in a folder called ``fold``."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "fold"
        model.export(root, verbose=False)
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for path in sorted(one for one in root.rglob("*") if one.is_file()):
                inside = path.relative_to(scratch).as_posix()
                entry = zipfile.ZipInfo(inside, (2026, 1, 1, 0, 0, 0))
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    for keras, suffix in ((keras2, "keras2"), (keras3, "keras3")):
        keras.utils.set_random_seed(1)
        plain = v1_like(keras)
        settle(plain, 2)
        store(folder, f"v1_{suffix}", plain, plain, 3)
        if keras is keras2:
            keras.mixed_precision.set_global_policy("mixed_float16")
            mixed = v1_like(keras)
            keras.mixed_precision.set_global_policy("float32")
            settle(mixed, 4)
            plain.set_weights(mixed.get_weights())
            store(folder, "v1_mixed_keras2", mixed, plain, 5)
        layers = every_layer(keras, is_keras3=keras is keras3)
        settle(layers, 6)
        store(folder, f"layers_{suffix}", layers, layers, 7)
        for make in (shared_layer, sequential, open_shape):
            model = make(keras)
            settle(model, 8)
            store(folder, f"{make.__name__}_{suffix}", model, model, 9)
        model = dark_spots(keras)
        store(folder, f"dark_spots_{suffix}", model, model, 10)
        if keras is keras3:
            store_saved_model(folder, "dark_spots_saved", model)
        for make in (with_lambda, unsupported, two_inputs):
            store(folder, f"{make.__name__}_{suffix}", make(keras), None, 0)


if __name__ == "__main__":
    main()
