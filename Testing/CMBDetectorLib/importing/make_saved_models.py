"""Write the stand-in SavedModels of the tests, with what TensorFlow computes from them.

Not run by the tests, which need no TensorFlow: what it wrote is in ``standins/``. To write it
again, with Python 3.11 and TensorFlow 2.21 (other versions give other graphs)::

    pip install tensorflow==2.21.0 keras==3.15.1
    python Testing/CMBDetectorLib/importing/make_saved_models.py --output standins

All weights are random; the networks find nothing. Each comes as saved_NAME.zip, which holds the
folder NAME, and, unless it is to be refused, saved_NAME.npz: ``input`` and ``output``, (batch, i,
j, k, channels), and the version of TensorFlow.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

SHAPE = (15, 18, 11)
SEED = 20260301


def _conv_block(x, filters: int, size: int = 3, **options):
    options = {"padding": "same", "use_bias": False} | options
    x = layers.Conv3D(filters, size, **options)(x)
    x = layers.BatchNormalization()(x)
    return layers.Activation("swish")(x)


def _residual_block(x, filters: int):
    shortcut = layers.Conv3D(filters, 1, use_bias=False)(x)
    x = _conv_block(_conv_block(x, filters), filters)
    return layers.Add()([x, shortcut])


def _up_to(x, skip):
    """Twice as large, then padded to the odd size of the skip connection."""
    x = layers.UpSampling3D(2)(x)
    missing = [b - a for a, b in zip(x.shape[1:4], skip.shape[1:4], strict=True)]
    x = layers.ZeroPadding3D([(n // 2, n - n // 2) for n in missing])(x)
    return layers.Concatenate()([x, skip])


def resunet() -> keras.Model:
    """A U-Net of residual blocks, as the SHIVA models of 2026 are called."""
    image = layers.Input((*SHAPE, 1))
    first = _residual_block(image, 3)
    second = _residual_block(layers.Dropout(0.2)(layers.MaxPooling3D(2)(first)), 4)
    third = _residual_block(_conv_block(second, 4, strides=2), 6)
    x = layers.Conv3DTranspose(4, 3, strides=2, padding="same")(third)
    crop = [(0, a - b) for a, b in zip(x.shape[1:4], second.shape[1:4], strict=True)]
    x = layers.Concatenate()([layers.Cropping3D(crop)(x), second])
    x = _residual_block(x, 4)
    x = _residual_block(_up_to(x, first), 3)
    return keras.Model(image, layers.Conv3D(1, 1, activation="sigmoid")(x))


def every_layer() -> keras.Model:
    """Branches that together hold every layer that is supported."""
    image = layers.Input((*SHAPE, 2))
    x = layers.Conv3D(4, 3, padding="same", dilation_rate=(2, 1, 2))(image)
    x = layers.PReLU(shared_axes=[1, 2, 3])(x)
    x = layers.Conv3D(4, 3, padding="same", groups=2)(x)
    x = layers.LeakyReLU(negative_slope=0.13)(x)
    x = layers.LayerNormalization(axis=-1)(x)
    parts = [
        layers.Activation(name)(x)
        for name in ("elu", "selu", "gelu", "softplus", "softsign", "relu6", "tanh", "hard_swish")
    ]
    parts += [layers.Activation(name)(x) for name in ("mish", "hard_sigmoid", "exponential")]
    parts += [layers.ReLU(max_value=0.8, negative_slope=0.05, threshold=0.0)(x)]
    parts += [keras.ops.gelu(x, approximate=False), keras.ops.leaky_relu(x)]
    x = layers.Concatenate()(parts)
    weights = layers.Dense(6, activation="relu")(layers.GlobalAveragePooling3D()(x))
    weights = layers.Dense(x.shape[-1], activation="sigmoid")(weights)
    x = layers.Multiply()([x, layers.Reshape((1, 1, 1, x.shape[-1]))(weights)])
    x = layers.Conv3D(6, 2, padding="valid")(x)
    x = layers.GroupNormalization(groups=3)(x)
    low = layers.Concatenate()(
        [
            layers.AveragePooling3D(3, strides=2, padding="same")(x),
            layers.AveragePooling3D(2, padding="same")(x),
            layers.MaxPooling3D(3, strides=2, padding="same")(x),
        ]
    )
    low = layers.SpatialDropout3D(0.3)(low)
    ups = [
        layers.Conv3DTranspose(3, 2, strides=2, padding="valid")(low),
        layers.Conv3DTranspose(3, 3, strides=2, padding="same", use_bias=False)(low),
        layers.Conv3DTranspose(3, (2, 3, 3), strides=2, padding="valid")(low),
        layers.Conv3DTranspose(3, 1, strides=2, padding="same")(low),
        layers.UpSampling3D((2, 2, 2))(layers.Conv3D(3, 1)(low)),
    ]
    ups = [layers.Cropping3D(_crop(up, x))(up) for up in ups]
    x = layers.Conv3D(3, 3, padding="same", activation="relu")(x)
    ups += [
        layers.Average()([ups[0], ups[1], x]),
        layers.Maximum()([ups[2], ups[3]]),
        layers.Minimum()([ups[1], ups[4]]),
        layers.Subtract()([ups[3], x]),
    ]
    x = layers.Concatenate()(ups)
    x = _instance_norm(x)
    x = layers.ZeroPadding3D(((1, 0), (0, 1), (1, 0)))(x)
    x = layers.Permute((2, 1, 3, 4))(layers.Permute((2, 1, 3, 4))(x))
    shared = layers.Dense(3)
    x = layers.Add()([layers.GlobalMaxPooling3D(keepdims=True)(x), x])
    return keras.Model(image, layers.Softmax()(layers.Rescaling(0.2)(shared(x))))


def _crop(large, small) -> list[tuple[int, int]]:
    over = [a - b for a, b in zip(large.shape[1:4], small.shape[1:4], strict=True)]
    return [(n - n // 2, n // 2) for n in over]


def _instance_norm(x):
    mean, variance = keras.ops.moments(x, axes=(1, 2, 3), keepdims=True)
    return (x - mean) / keras.ops.sqrt(variance + 1e-5)


def small_unet() -> keras.Model:
    """Without pooling, for which TensorFlow has no half precision on the CPU."""
    image = layers.Input((*SHAPE, 1))
    x = _residual_block(image, 3)
    x = _up_to(_conv_block(x, 4, strides=2, padding="valid"), x)
    return keras.Model(image, layers.Conv3D(1, 1, activation="sigmoid", dtype="float32")(x))


class PlainModule(tf.Module):
    """Raw operations on an image whose size is left open; no Keras."""

    def __init__(self) -> None:
        super().__init__()
        random = np.random.default_rng(SEED)
        self.kernel = tf.Variable(random.normal(0, 0.4, (3, 3, 3, 1, 4)).astype(np.float32))
        self.up = tf.Variable(random.normal(0, 0.4, (2, 2, 2, 3, 4)).astype(np.float32))
        self.double = tf.Variable(random.normal(0, 0.4, (3,)))
        self.half = tf.Variable(tf.cast(self.kernel[:, 0, 0, 0, 0], tf.float16))
        self.brain = tf.Variable(tf.cast(self.kernel[:, 0, 0, 0, 1], tf.bfloat16))
        self.scale = tf.constant(random.uniform(0.5, 1.5, 4).astype(np.float32))
        self.unused = tf.Variable(1, dtype=tf.int64)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, None, 1), tf.float32, "image")])
    def __call__(self, image):
        """Upsampling as Keras 2 does it, shapes computed while running."""
        x = tf.nn.conv3d(image, self.kernel, [1, 2, 2, 2, 1], "SAME") * self.scale
        n = tf.shape(x)
        flat = tf.reshape(x, [n[0], -1, 1, 4])
        y, _, _ = tf.compat.v1.nn.fused_batch_norm(
            flat, self.scale, tf.zeros(4), mean=tf.ones(4), variance=self.scale, is_training=False
        )
        z, _, _ = tf.compat.v1.nn.fused_batch_norm(flat, self.scale, tf.ones(4))
        x = tf.reshape(tf.add_n([y, z, flat]), n)
        x = tf.nn.leaky_relu(x)
        size = tf.concat([n[:1], tf.shape(image)[1:4], [3]], axis=0)
        up = tf.nn.conv3d_transpose(x, self.up, size, [1, 2, 2, 2, 1], "SAME")
        up = tf.nn.bias_add(up, tf.cast(self.double, tf.float32))
        up = up + tf.cast(self.half, tf.float32) * tf.cast(self.brain, tf.float32)
        first, *others = tf.split(up, 3, axis=-1)
        others = [tf.math.exp(-tf.square(other)) for other in others]
        up = tf.concat([first, *others, tf.ones_like(first)], axis=-1)
        a, b = tf.split(up, [1, 3], axis=4)
        up = tf.stack([tf.squeeze(a, -1), tf.reduce_max(b[..., :2], -1), b[..., -1]], axis=-1)
        up = tf.pad(up, [[0, 0], [1, 0], [0, 0], [0, 2], [0, 0]], constant_values=0.5)
        up = tf.slice(up, [0, 1, 0, 1, 0], [-1, -1, -1, tf.shape(image)[3], 2])
        up = tf.tile(up, [1, 1, 1, 1, 3])[:, ::1, ..., tf.newaxis, 0:4:3]
        up = tf.transpose(up[:, :, :, :, 0], [0, 1, 2, 3, 4])
        total = tf.reduce_sum(up, axis=[1, 2, 3, 4], keepdims=True)
        lowest = tf.reduce_min(up, axis=[1, 2], keepdims=True)
        up = (up - lowest) / tf.maximum(tf.abs(total) * 1e-3, 1.0) + tf.reduce_mean(up)
        return {"map": tf.math.rsqrt(1.0 + tf.math.log(1.0 + tf.square(up)))}


class RepeatModule(tf.Module):
    """Nearest neighbours as Keras 2 repeats them: slices one voxel thick, each given twice."""

    @tf.function(input_signature=[tf.TensorSpec((1, *SHAPE, 1), tf.float32, "image")])
    def __call__(self, image):
        x = tf.nn.max_pool3d(image, 2, 2, "SAME")
        for axis in (1, 2, 3):
            slices = tf.split(x, x.shape[axis], axis=axis)
            x = tf.concat([part for part in slices for _ in range(2)], axis=axis)
        x = tf.slice(x, [0, 0, 0, 0, 0], [1, *SHAPE, 1])
        return tf.matmul(x, tf.constant([[2.0, -1.0]])) + tf.nn.softmax(x)


class UnsupportedModule(tf.Module):
    """An operation that is not supported."""

    @tf.function(input_signature=[tf.TensorSpec((1, *SHAPE, 1), tf.float32, "image")])
    def __call__(self, image):
        return tf.raw_ops.Lgamma(x=image + 1.0)


class LoopModule(tf.Module):
    """A loop that TensorFlow keeps as one."""

    @tf.function(input_signature=[tf.TensorSpec((1, *SHAPE, 1), tf.float32, "image")])
    def __call__(self, image):
        return tf.while_loop(lambda x: tf.reduce_sum(x) < 1e3, lambda x: [x + 1.0], [image])[0]


def _randomize(model: keras.Model) -> None:
    """Statistics, scales and offsets such as training leaves them, all different."""
    random = np.random.default_rng(SEED)
    for variable in model.variables:
        shape = tuple(variable.shape)
        if len(shape) > 2 and variable.name != "alpha":
            continue
        if "variance" in variable.name or "gamma" in variable.name:
            variable.assign(random.uniform(0.4, 1.6, shape))
        elif "seed" not in variable.name:
            variable.assign(variable.numpy() + random.normal(0, 0.2, shape))


def _keras(make: Callable[[], keras.Model]) -> Callable[[Path], tuple[np.ndarray, np.ndarray]]:
    def write(folder: Path) -> tuple[np.ndarray, np.ndarray]:
        keras.utils.set_random_seed(SEED)
        model = make()
        _randomize(model)
        model.export(folder, verbose=False)
        return _run(folder, model.input_shape[1:])

    return write


def _mixed_precision(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Computed in half precision by the SavedModel; the output is that in single precision."""
    image, result = _keras(small_unet)(folder / "single")
    shutil.rmtree(folder)
    keras.mixed_precision.set_global_policy("mixed_float16")
    _, half = _keras(small_unet)(folder)
    keras.mixed_precision.set_global_policy("float32")
    print("half precision differs by", float(np.abs(half - result).max()))
    return image, result


def _direct(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Saved without Keras's ``export``: its restore function does not lead to the variables."""
    keras.utils.set_random_seed(SEED)
    model = small_unet()
    _randomize(model)
    tf.saved_model.save(model, folder)
    return _run(folder, model.input_shape[1:])


def _module(make: Callable[[], tf.Module]) -> Callable[[Path], tuple[np.ndarray, np.ndarray]]:
    def write(folder: Path) -> tuple[np.ndarray, np.ndarray]:
        module = make()
        tf.saved_model.save(module, folder, signatures=module.__call__)
        return _run(folder, (*SHAPE, 1))

    return write


def _run(folder: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    steps = np.random.default_rng(SEED).integers(0, 256, (1, *shape))
    image = (steps / 255).astype(np.float32)
    result = tf.saved_model.load(folder).signatures["serving_default"](tf.constant(image))
    return image, np.asarray(next(iter(result.values())), np.float32)


MODELS = {
    "resunet": _keras(resunet),
    "every_layer": _keras(every_layer),
    "mixed_precision": _mixed_precision,
    "direct": _direct,
    "plain_module": _module(PlainModule),
    "repeat_module": _module(RepeatModule),
    "unsupported": _module(UnsupportedModule),
    "loop": _module(LoopModule),
}
REFUSED = ("unsupported", "loop")


def _zip(folder: Path, target: Path) -> None:
    """All files, with the same date each time."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = path.relative_to(folder.parent).as_posix()
                info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
                archive.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED)


def main() -> None:
    """Write them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for the stand-ins")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    for name, write in MODELS.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / name
            image, result = write(folder)
            _zip(folder, output / f"saved_{name}.zip")
        print(name, result.shape, float(result.min()), float(result.max()))
        if name in REFUSED:
            continue
        version = np.array(tf.__version__)
        np.savez_compressed(
            output / f"saved_{name}.npz", input=image, output=result, tensorflow=version
        )


if __name__ == "__main__":
    main()
