"""The backbones, and the one table that names them.

Each backbone maps a molded image `[B, H, W, C]` to the feature maps C1..C5 of strides 2, 4, 8, 16
and 32. A new backbone is a function here, a row of `BACKBONES`, and its name in `config.BACKBONES`;
if its ImageNet file names layers in a new way, a conversion in `weights/keras_applications.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import layers as KL

from ..config import Config
from .efficientnet_lite import efficientnet_lite2_graph
from .layers import FLOAT32, Conv2D, RoIConv2D, has_bias, norm
from .molding import scale_pixels
from .resnet_names import block_letters

# --- ResNet (He 2015) ---

RESNET_BLOCKS = {
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}


def resnet_graph(
    input_image: Any,
    architecture: str,
    stage5: bool = False,
    train_bn: bool | None = True,
    config: Any = None,
) -> list:
    """`[C1, C2, C3, C4, C5]`, maps `[B, h, w, C]` of a ResNet; C5 is None without stage5.

    matterport calls the pooled map C1; its stride is 4, and no layer reads it but stage 2.

    input_image: `[B, H, W, C]` molded.
    architecture: "resnet50", "resnet101" or "resnet152".
    train_bn: see `BatchNorm`.
    config: a `Config` with the settings of the ResNet instead of train_bn; default matterport's.
    """
    if architecture not in RESNET_BLOCKS:
        raise ValueError(
            f"architecture must be one of {list(RESNET_BLOCKS)}. Received: {architecture!r}."
        )
    config = config or _matterport_config(train_bn)
    _, *maps = _resnet_maps(input_image, RESNET_BLOCKS[architecture], stage5, config)
    return maps


def _resnet_maps(input_image, blocks, stage5, config):
    """The map of the first convolution, of stride 2, and those of `resnet_graph`."""
    x = KL.ZeroPadding2D((3, 3))(input_image)
    use_bias = has_bias(config.BACKBONE_NORM, config)
    x = Conv2D(64, (7, 7), strides=(2, 2), name="conv1", use_bias=use_bias)(x)
    x = norm(x, config.BACKBONE_NORM, config, "bn_conv1")
    stem = x = KL.Activation("relu")(x)
    if config.SYMMETRIC_PADDING:
        x = KL.ZeroPadding2D(1)(x)  # no value is below 0, so that zeros do not change a maximum
    padding = "valid" if config.SYMMETRIC_PADDING else "same"
    x = KL.MaxPooling2D((3, 3), strides=(2, 2), padding=padding)(x)
    maps = [stem, x]
    for stage, count in enumerate(blocks if stage5 else blocks[:3], start=2):
        x = _resnet_stage(x, stage, count, config)
        maps.append(x)
    return maps if stage5 else [*maps, None]


def _matterport_config(train_bn: bool | None, use_bias: bool = True) -> Config:
    config: Any = Config()
    config.TRAIN_BN, config.BIAS_BEFORE_NORM = train_bn, use_bias
    return config


def build_stage5_model(channels: int, config: Any) -> keras.Model:
    """Stage 5 on RoIs as a model of its own, so that the branches of the head share its weights.

    Input: RoIs `[B, N, 2 * h, 2 * w, channels]` of C4. Output: `[B, N, h, w, 2 * channels]`. The
    layers have their names in the backbone, so that ImageNet's weights are theirs.
    """
    rois = keras.Input([None, 2 * config.POOL_SIZE, 2 * config.POOL_SIZE, channels])
    return keras.Model(rois, _resnet_stage(rois, 5, 3, config, channels // 2), name="res5_model")


def _resnet_stage(x, stage, blocks, config, width=None):
    """A stage's feature map; the first block halves the size, except in stage 2.

    width: of the 3x3 convolutions, by default ResNet's.
    """
    width = width or 32 * 2 ** (stage - 1)
    filters = [width, width, 4 * width]
    stride = 1 if stage == 2 else 2
    x = _residual_block(x, filters, f"{stage}a", config, stride, projected=True)
    for i in range(1, blocks):
        x = _residual_block(x, filters, f"{stage}{block_letters(i)}", config)
    return x


def _residual_block(
    x,
    filters,
    name,
    config,
    stride: int | Sequence[int] = 1,
    projected=False,
    kernel_size: int | Sequence[int] = 3,
):
    """A bottleneck and its shortcut (ResNet, figure 5), in matterport's names.

    x: images `[B, H, W, C]` or RoIs `[B, N, h, w, C]`.
    projected: the shortcut is a convolution, because the block changes size or width.
    """
    shortcut, kind, are_rois = x, config.BACKBONE_NORM, len(x.shape) == 5
    make_layer = RoIConv2D if are_rois else Conv2D
    first, second = (stride, 1) if config.STRIDE_IN_1X1 else (1, stride)

    def convolve(x, filters, size, strides, branch):
        padding = "same"
        if strides != 1 and size != 1 and config.SYMMETRIC_PADDING:
            pad = KL.ZeroPadding3D((0, 1, 1)) if are_rois else KL.ZeroPadding2D(1)
            x, padding = pad(x), "valid"
        layer = make_layer(
            filters,
            size,
            strides=strides,
            # Also of 1x1: with "valid" TensorFlow does not know that sizes stay equal, and does
            # not fuse the sum and the ReLU at the end of a block (bfloat16: a quarter more time).
            padding=padding,
            name=f"res{name}_branch{branch}",
            use_bias=has_bias(kind, config),
        )
        return norm(layer(x), kind, config, f"bn{name}_branch{branch}")

    x = KL.Activation("relu")(convolve(x, filters[0], 1, first, "2a"))
    x = KL.Activation("relu")(convolve(x, filters[1], kernel_size, second, "2b"))
    x = convolve(x, filters[2], 1, 1, "2c")
    if projected:
        shortcut = convolve(shortcut, filters[2], 1, stride, "1")
    x = KL.Add()([x, shortcut])
    return KL.Activation("relu", name=f"res{name}_out")(x)


def identity_block(
    input_tensor: Any,
    kernel_size: int,
    filters: list[int],
    stage: int,
    block: str,
    use_bias: bool = True,
    train_bn: bool | None = True,
) -> Any:
    """`[B, h, w, C]` matterport's bottleneck whose shortcut is the identity (ResNet, figure 5).

    input_tensor: `[B, h, w, C]`.
    filters: the widths of the three convolutions; the last is C.
    stage, block: for the names; `2` and `"a"` give `res2a_...`.
    """
    config = _matterport_config(train_bn, use_bias)
    return _residual_block(
        input_tensor, filters, f"{stage}{block}", config, kernel_size=kernel_size
    )


def conv_block(
    input_tensor: Any,
    kernel_size: int,
    filters: list[int],
    stage: int,
    block: str,
    strides: tuple[int, int] = (2, 2),
    use_bias: bool = True,
    train_bn: bool | None = True,
) -> Any:
    """`[B, h, w, filters[2]]` a bottleneck that changes size or width; see `identity_block`.

    Its first 1x1 convolution and that of its shortcut have the strides.

    input_tensor: `[B, H, W, C]`.
    """
    config = _matterport_config(train_bn, use_bias)
    return _residual_block(
        input_tensor, filters, f"{stage}{block}", config, strides, True, kernel_size
    )


# --- Networks of keras.applications: their layers are part of ours, under their own names ---

NOT_PRETRAINED: Any = None  # Keras' annotation says str
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class Application(NamedTuple):
    """A network of keras.applications as a backbone.

    name: of the layer that scales the pixels, `<name>_scaling`.
    make: its function in keras.applications.
    mean, std: of the pixels that it reads are subtracted, and the difference is divided by them.
    ends: names of the layers whose outputs are C1 to C5.
    """

    name: str
    make: Callable[..., Any]
    mean: float | Sequence[float]
    std: float | Sequence[float]
    ends: Sequence[str]

    def __call__(self, input_image: Any, config: Any) -> list:
        """`[C1, C2, C3, C4, C5]`, maps `[B, h, w, C]`.

        input_image: `[B, H, W, C]` molded.
        """
        network = self.network(input_image, config)
        return [network.get_layer(name).output for name in self.ends]

    def network(self, input_image: Any, config: Any, **options: Any) -> Any:
        """Build the network on a molded image; options: further arguments of `make`."""
        x = scale_pixels(input_image, config, self.name, self.mean, self.std)
        network = self.make(input_tensor=x, include_top=False, weights=NOT_PRETRAINED, **options)
        for layer in network.layers:
            if isinstance(layer, KL.BatchNormalization) and config.TRAIN_BN is False:
                layer.trainable = False
        return network


# Sandler 2018.
mobilenet_v2_graph = Application(
    "mobilenet",
    keras.applications.MobileNetV2,
    mean=127.5,
    std=127.5,
    ends=(
        "block_1_expand_relu",
        "block_3_expand_relu",
        "block_6_expand_relu",
        "block_13_expand_relu",
        "out_relu",
    ),
)

# Tan 2021. Its last convolution, which widens C5 for the classifier, is left out.
efficientnet_v2_b0_graph = Application(
    "efficientnetv2_b0",
    functools.partial(keras.applications.EfficientNetV2B0, include_preprocessing=False),
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    ends=(
        "block1a_project_activation",
        "block2b_add",
        "block3b_add",
        "block5e_add",
        "block6h_add",
    ),
)
efficientnet_v2_s_graph = Application(
    "efficientnetv2_s",
    functools.partial(keras.applications.EfficientNetV2S, include_preprocessing=False),
    mean=128.0,
    std=128.0,
    ends=("block1b_add", "block2d_add", "block3d_add", "block5i_add", "block6o_add"),
)

_convnext_tiny = Application(
    "convnext_tiny",
    functools.partial(keras.applications.ConvNeXtTiny, include_preprocessing=False),
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    ends=(),
)


def convnext_tiny_graph(input_image: Any, config: Any) -> list:
    """`[C1, C2, C3, C4, C5]`, maps `[B, h, w, C]` of ConvNeXt-T (Liu 2022); C1 has stride 4 too.

    Keras computes its depthwise convolutions as grouped ones, which take very long on a CPU.

    input_image: `[B, H, W, C]` molded.
    """
    network = _convnext_tiny.network(input_image, config)
    c1 = network.get_layer("convnext_tiny_stage_0_block_0_depthwise_conv").input
    operations = network.operations
    names = [operation.name for operation in operations]
    # A stage ends with a sum without a name, before the next stage or the classifier's norm.
    after = [names.index(f"convnext_tiny_downsampling_block_{i}") for i in range(3)]
    return [c1, *(operations[i - 1].output for i in (*after, len(names) - 1))]


# Simonyan 2015. C4, of stride 16, is conv5_3, which Faster R-CNN reads (Ren 2015).
vgg16_graph = Application(
    "vgg16",
    keras.applications.VGG16,
    mean=(123.68, 116.779, 103.939),
    std=1.0,
    ends=("block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3", "block5_pool"),
)


# --- The table ---


class ImageNetFile(NamedTuple):
    """A released file of ImageNet weights without top.

    size: in bytes.
    layer_names: the naming scheme of its layers, a key of `weights.imagenet.CONVERSIONS`.
    md5, sha256: hexadecimal; None if it is not published.
    older_md5s: of earlier releases, which may stay in a cache.
    """

    url: str
    size: int
    layer_names: str
    md5: str | None = None
    older_md5s: tuple[str, ...] = ()
    sha256: str | None = None


class PackagedFile(NamedTuple):
    """A file of ImageNet weights that this package contains, in `weights/packaged`."""

    name: str
    layer_names: str  # as of `ImageNetFile`


class Backbone(NamedTuple):
    """One row of the table: all that the package knows about a backbone.

    build: `(image [B, H, W, C], config) -> [C1, C2, C3, C4, C5]`.
    stages: regex of the layer names of each stage that "3+", "4+" and "5+" can train.
    imagenet: its pretrained weights. The checksums are those that Keras publishes.
    finest_stride: of C1.
    """

    build: Callable[[Any, Any], list]
    stages: dict[str, str]
    imagenet: ImageNetFile | PackagedFile
    finest_stride: int = 2


def _build_resnet(input_image, config):
    blocks = RESNET_BLOCKS[config.BACKBONE]
    stem, pooled, *stages = _resnet_maps(input_image, blocks, True, config)
    return [stem if config.BACKBONE_STRIDES[0] == 2 else pooled, *stages]


RESNET_STAGES = {
    "3": r"(res3.*)|(bn3.*)",
    "4": r"(res4.*)|(bn4.*)",
    "5": r"(res5.*)|(bn5.*)",
}
VGG_STAGES = {
    "3": r"(block3_conv.*)",
    "4": r"(block4_conv.*)",
    "5": r"(block5_conv.*)",
}
EFFICIENTNET_STAGES = {
    "3": r"(block3[a-z]_.*)",
    "4": r"(block[45][a-z]_.*)",
    "5": r"(block[67][a-z]_.*)",
}
CONVNEXT_STAGES = {
    "3": r"(convnext_tiny_(stage_1|downsampling_\w+_0).*)",
    "4": r"(convnext_tiny_(stage_2|downsampling_\w+_1).*)",
    "5": r"(convnext_tiny_(stage_3|downsampling_\w+_2).*)",
}
MOBILENET_STAGES = {
    "3": r"(block_[3-5]_.*)",
    "4": r"(block_([6-9]|1[0-2])_.*)",
    "5": r"(block_1[3-6]_.*)|(Conv_1.*)",
}

_URL = "https://storage.googleapis.com/tensorflow/keras-applications/"

BACKBONES = {
    "resnet50": Backbone(
        _build_resnet,
        RESNET_STAGES,
        ImageNetFile(
            _URL + "resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
            size=94_765_736,
            layer_names="resnet",
            md5="4d473c1dd8becc155b73f8504c6f6626",
            # matterport's package downloaded this file in 2017 under the same name.
            older_md5s=("a268eb855778b3df3c7506639542a6af",),
        ),
    ),
    "resnet101": Backbone(
        _build_resnet,
        RESNET_STAGES,
        ImageNetFile(
            _URL + "resnet/resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5",
            size=171_446_536,
            layer_names="resnet",
            md5="88cf7a10940856eca736dc7b7e228a21",
        ),
    ),
    "resnet152": Backbone(
        _build_resnet,
        RESNET_STAGES,
        ImageNetFile(
            _URL + "resnet/resnet152_weights_tf_dim_ordering_tf_kernels_notop.h5",
            size=234_698_864,
            layer_names="resnet",
            md5="ee4c566cf9a93f14d82f913c2dc6dd0c",
        ),
    ),
    "vgg16": Backbone(
        vgg16_graph,
        VGG_STAGES,
        ImageNetFile(
            _URL + "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            size=58_889_256,
            layer_names="vgg16",
            md5="6d6bbae143d832006294945121d1f1fc",
        ),
    ),
    "mobilenet_v2": Backbone(
        mobilenet_v2_graph,
        MOBILENET_STAGES,
        ImageNetFile(
            _URL + "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
            size=9_406_464,
            layer_names="mobilenet_v2",
        ),
    ),
    "efficientnet_lite2": Backbone(
        efficientnet_lite2_graph,
        EFFICIENTNET_STAGES,
        PackagedFile("efficientnet_lite2_imagenet.h5", layer_names="keras.applications"),
    ),
    "efficientnet_v2_b0": Backbone(
        efficientnet_v2_b0_graph,
        EFFICIENTNET_STAGES,
        ImageNetFile(
            _URL + "efficientnet_v2/efficientnetv2-b0_notop.h5",
            size=24_274_472,
            layer_names="keras.applications",
            md5="893217f2bb855e2983157299931e43ff",
        ),
    ),
    "efficientnet_v2_s": Backbone(
        efficientnet_v2_s_graph,
        EFFICIENTNET_STAGES,
        ImageNetFile(
            _URL + "efficientnet_v2/efficientnetv2-s_notop.h5",
            size=82_420_632,
            layer_names="keras.applications",
            md5="af0682fb74e8c54910f2d4393339c070",
        ),
    ),
    "convnext_tiny": Backbone(
        convnext_tiny_graph,
        CONVNEXT_STAGES,
        ImageNetFile(
            _URL + "convnext/convnext_tiny_notop.h5",
            size=111_650_432,
            layer_names="keras.applications",
            sha256="d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
        ),
        finest_stride=4,
    ),
}


def feature_maps(input_image: Any, config: Config) -> list:
    """The maps `[B, h, w, C]` of the backbone that the network reads, see BACKBONE_STRIDES.

    With a pyramid C2 to C5, or C1 to C5; without one only the map of its stride.

    input_image: `[B, H, W, C]` molded.

    Raises: ValueError if the backbone has no map of stride 2, and the network shall read it.
    """
    finest = 2 if callable(config.BACKBONE) else BACKBONES[config.BACKBONE].finest_stride
    if config.BACKBONE_STRIDES[0] < finest:
        raise ValueError(
            f"BACKBONE_STRIDES must begin with {finest} or more if BACKBONE is {config.BACKBONE}. "
            f"Received: {config.BACKBONE_STRIDES}. Try another BACKBONE."
        )
    maps = backbone_graph(input_image, config)
    if config.has_pyramid():
        return maps[config.finest_level() - 1 :]
    level = config.BACKBONE_STRIDES[0].bit_length() - 1  # 16: C4
    return [maps[level - 1]]


def backbone_graph(input_image: Any, config: Any) -> list:
    """`[C1, C2, C3, C4, C5]`, maps `[B, h, w, C]` of the backbone that the config names.

    Convolutions up to C1 compute in float32 whatever PRECISION says: in bfloat16 an image of 8 bits
    minus its mean is rounded by up to half a gray level, and small objects are found a pixel off
    (of 100 nuclei 84 instead of 96, docs/performance.md).

    input_image: `[B, H, W, C]` molded.
    """
    maps = _build_backbone(input_image, config)
    if maps[0] is not None:
        for layer in keras.Model(input_image, maps[0]).layers:
            for part in (layer, *getattr(layer, "layers", ())):  # ConvNeXt's stem is a model
                part.dtype_policy = keras.DTypePolicy(FLOAT32["dtype"])
    return maps


def _build_backbone(input_image, config: Any) -> Any:
    if not callable(config.BACKBONE):
        return BACKBONES[config.BACKBONE].build(input_image, config)
    try:
        return config.BACKBONE(input_image, stage5=True, train_bn=config.TRAIN_BN)
    except TypeError as error:
        # matterport's signature is (image, stage5, train_bn); a function of the image is fine too.
        if "unexpected keyword argument" not in str(error):
            raise
        return config.BACKBONE(input_image)
