"""Exports of Keras through tf2onnx: make_keras.py OUT. Channels are last, as in TensorFlow."""
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np

if not hasattr(np, "object"):  # tf2onnx 1.16 uses aliases that NumPy dropped
    np.object, np.bool, np.cast = object, bool, {}
import keras
import tensorflow as tf
import tf2onnx
from keras import layers

out, small = sys.argv[1], len(sys.argv) > 2
os.makedirs(out, exist_ok=True)


keras.utils.set_random_seed(1)


def randomise(model, seed):
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            n = layer.gamma.shape[0]
            layer.set_weights([rng.uniform(0.5, 1.5, n), rng.normal(0, 0.4, n),
                               rng.normal(0, 0.3, n), rng.uniform(0.3, 1.3, n)])
    return model


def block(x, filters, stride, bias):
    y = layers.Conv2D(filters, 3, stride, padding="same", use_bias=bias)(x)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    y = layers.Conv2D(filters, 3, 1, padding="same", use_bias=bias)(y)
    y = layers.BatchNormalization()(y)
    if stride != 1 or x.shape[-1] != filters:
        x = layers.BatchNormalization()(layers.Conv2D(filters, 1, stride, use_bias=bias)(x))
    return layers.ReLU()(layers.Add()([x, y]))


def resnet(head="mean", softmax=True, bias=False, rescale=False, size=32, stem="plain", width=16):
    x = inputs = keras.Input((size, size, 3), name="x")
    if rescale:
        x = layers.Rescaling(1 / 255.0)(x)
    if stem == "imagenet":
        x = layers.ZeroPadding2D(3)(x)
        x = layers.Conv2D(16, 7, 2, padding="valid")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.ZeroPadding2D(1)(x)
        x = layers.MaxPooling2D(3, 2)(x)
    else:
        x = layers.Conv2D(width, 3, padding="same", use_bias=bias)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = block(x, width, 1, bias)
    x = block(x, 2 * width, 2, bias)
    if head == "mean":
        x = layers.GlobalAveragePooling2D()(x)
    elif head == "pool":
        x = layers.Flatten()(layers.AveragePooling2D(x.shape[1])(x))
    else:
        x = layers.Flatten()(x)
        x = layers.Dense(24, activation="relu")(x)
    x = layers.Dense(10, activation="softmax" if softmax else None)(x)
    return keras.Model(inputs, x)


def settle(model, seed):
    """A deep network's batch norm fitted to random images, then moved a little."""
    rng = np.random.default_rng(seed)
    norms = [m for m in model.layers if isinstance(m, layers.BatchNormalization)]
    for m in norms:
        m.momentum = 0.0
    model(rng.random((2, *model.input_shape[1:]), np.float32), training=True)
    for m in norms:
        _, _, mean, var = m.get_weights()
        n = len(mean)
        m.set_weights([rng.uniform(0.8, 1.2, n), rng.normal(0, 0.2, n),
                       mean + 0.1 * np.sqrt(var) * rng.normal(0, 1, n),
                       var * rng.uniform(0.8, 1.2, n)])


def save(name, model, opset, seed=1, deep=False, **k):
    (settle if deep else randomise)(model, seed)
    shape = (None,) + model.input_shape[1:]
    spec = (tf.TensorSpec(shape, tf.float32, name="x"),)
    call = tf.function(lambda x: model(x, training=False), input_signature=spec)
    proto, _ = tf2onnx.convert.from_function(call, input_signature=spec, opset=opset, **k)
    with open(os.path.join(out, name), "wb") as f:
        f.write(proto.SerializeToString())
    print(name, flush=True)


if small:  # make_keras.py OUT small: a file of tests/zoo/small
    save("keras_channels_last.onnx", resnet(head="flat", size=8, width=2), 15)
    sys.exit(0)
save("keras_resnet_op15.onnx", resnet(), 15)
save("keras_resnet_logits_op13.onnx", resnet(softmax=False), 13)
save("keras_resnet_bias_op17.onnx", resnet(bias=True, head="pool"), 17)
save("keras_resnet_flatten_op15.onnx", resnet(head="flat", softmax=False), 15)
save("keras_resnet_rescale_op18.onnx", resnet(rescale=True), 18)
save("keras_resnet_imagenet_op14.onnx", resnet(stem="imagenet", size=64), 14)
save("keras_resnet_nchw_op15.onnx", resnet(softmax=False), 15, inputs_as_nchw=["x"])
save("keras_resnet_op9.onnx", resnet(softmax=False), 9)
save("keras_resnet50_op15.onnx",
     keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=10), 15)
save("keras_resnet50_own_size_op15.onnx", keras.applications.ResNet50(weights=None), 15, deep=True)
save("keras_mobilenet_v1_op15.onnx",
     keras.applications.MobileNet(weights=None, input_shape=(64, 64, 3), classes=10, alpha=0.25), 15)
save("keras_resnet50v2_op15.onnx",
     keras.applications.ResNet50V2(weights=None, input_shape=(64, 64, 3), classes=10), 15)
save("keras_mobilenet_op15.onnx",
     keras.applications.MobileNetV2(weights=None, input_shape=(64, 64, 3), classes=10, alpha=0.35),
     15)
