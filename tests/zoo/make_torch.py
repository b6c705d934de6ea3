"""Exports of PyTorch: make_torch.py OUT SET, with SET one of the names at the end.

Every file is one line of the table in zoo.tsv. The sets need different versions of PyTorch, so each
has its own environment (Makefile, target zoo).
"""
import os
import sys
import warnings

import torch
import torch.nn as nn

import nets

warnings.filterwarnings("ignore")
out, which = sys.argv[1], sys.argv[2]
os.makedirs(out, exist_ok=True)


def resnet(**k):
    return nets.ResNetCifar(**k)


def script(name, model, opset, seed=1, size=32, batch=2, dynamic=True, dynamo=None, deep=False, **k):
    torch.manual_seed(seed)
    x = torch.rand(batch, 3, size, size)
    model = nets.settle(model, x, seed) if deep else nets.randomise(model, seed)
    axes = {"x": {0: "batch"}, "y": {0: "batch"}} if dynamic else None
    if dynamo is not None:
        k["dynamo"] = dynamo
    k.setdefault("output_names", ["y"])
    torch.onnx.export(model, x, os.path.join(out, name), input_names=["x"], opset_version=opset,
                      dynamic_axes=axes, **k)
    print(name, flush=True)


def dynamo(name, model, opset=18, seed=1, size=32, batch=2, dynamic=True, external=False, **k):
    torch.manual_seed(seed)
    model = nets.randomise(model, seed)
    x = torch.rand(batch, 3, size, size)
    if dynamic:
        k["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
    if "external_data" in torch.onnx.export.__code__.co_varnames:
        k["external_data"] = external
    try:
        torch.onnx.export(model, (x,), os.path.join(out, name), input_names=["x"],
                          output_names=["y"], opset_version=opset, dynamo=True, verbose=False, **k)
    except TypeError:  # older releases know fewer options
        for unknown in ("external_data", "verbose"):
            k.pop(unknown, None)
        torch.onnx.export(model, (x,), os.path.join(out, name), input_names=["x"],
                          output_names=["y"], opset_version=opset, dynamo=True, **k)
    print(name, flush=True)


def torchscript_113():
    t = torch.onnx.TrainingMode
    script("ts113_resnet8_op9.onnx", resnet(), 9)
    script("ts113_resnet8_view_op11.onnx", resnet(head="avg_view"), 11)
    script("ts113_resnet20a_op13.onnx", resnet(n=3, shortcut="A", head="avg_view"), 13)
    script("ts113_resnet20a_op10.onnx", resnet(n=3, shortcut="A"), 10, dynamic=False, batch=1)
    script("ts113_resnet20a_op11.onnx", resnet(n=3, shortcut="A"), 11)
    script("ts113_resnet20a_cat_op13.onnx", resnet(n=3, shortcut="A, joined", head="view_mean"), 13)
    script("ts113_wrn10_op14.onnx", nets.WideResNet(k=2), 14)
    script("ts113_wrn10_nofold_op12.onnx", nets.WideResNet(), 12, do_constant_folding=False,
           training=t.PRESERVE)
    script("ts113_resnet8_bn_op13.onnx", resnet(), 13, training=t.PRESERVE,
           do_constant_folding=False)
    script("ts113_resnet8_training_op15.onnx", resnet(), 15, training=t.TRAINING,
           do_constant_folding=False)
    script("ts113_resnet8_training_op12.onnx", resnet(), 12, training=t.TRAINING,
           do_constant_folding=False)
    script("ts113_wrn10_dropout_training_op13.onnx", nets.WideResNet(drop=0.3), 13,
           training=t.TRAINING, do_constant_folding=False)
    script("ts113_resnet8_inputs_op10.onnx", resnet(), 10, keep_initializers_as_inputs=True)
    script("ts113_vnn_op9.onnx", nets.Vnn(), 9, dynamic=False, batch=1)
    script("ts113_softmax_op13.onnx", nets.Normalised(resnet(), softmax=True), 13)
    script("ts113_softmax_op12.onnx", nets.Normalised(resnet(), softmax=True), 12)
    script("ts113_logsoftmax_op16.onnx", nets.LogSoftmax(), 16)
    script("ts113_two_outputs_op13.onnx", nets.Two(), 13, output_names=["y", "extra"])
    script("ts113_mean_op16.onnx", resnet(head="mean"), 16)
    script("ts113_mean_keep_op11.onnx", resnet(head="mean_keep"), 11)
    script("ts113_flat_op8.onnx", resnet(head="flat"), 8, dynamic=False, batch=4)
    script("ts113_resnext_stem_op13.onnx", nets.Stem(groups=4), 13, size=64)
    script("ts113_avgstem_op11.onnx", nets.Stem(pool="avg"), 11, size=64)
    script("ts113_shared_op13.onnx", nets.Shared(), 13)
    script("ts113_relu6_op13.onnx", resnet(act=nn.ReLU6), 13)
    script("ts113_silu_op13.onnx", resnet(act=nn.SiLU), 13)
    script("ts113_leaky_op13.onnx", resnet(act=lambda: nn.LeakyReLU(0.1)), 13)
    script("ts113_se_op13.onnx", nets.Squeeze(), 13)
    script("ts113_dense_op13.onnx", nets.Dense(), 13)


def torch_29():
    import timm
    import torchvision

    t = torch.onnx.TrainingMode
    tv = torchvision.models
    script("ts29_resnet8_op17.onnx", resnet(), 17, dynamo=False)
    script("ts29_resnet20a_op18.onnx", resnet(n=3, shortcut="A", head="mean"), 18, dynamo=False)
    script("ts29_wrn10_op20.onnx", nets.WideResNet(k=2), 20, dynamo=False)
    script("ts29_training_op17.onnx", resnet(), 17, dynamo=False, training=t.TRAINING,
           do_constant_folding=False)
    script("ts29_tv_resnet18_op17.onnx", tv.resnet18(num_classes=10), 17, size=64, dynamo=False)
    dynamo("dy29_resnet8_op18.onnx", resnet())
    dynamo("dy29_resnet8_external_op18.onnx", resnet(), external=True)
    dynamo("dy29_resnet8_noopt_op18.onnx", resnet(), optimize=False)
    dynamo("dy29_resnet8_fixed_op18.onnx", resnet(head="avg_view"), dynamic=False, batch=1)
    dynamo("dy29_resnet20a_op20.onnx", resnet(n=3, shortcut="A", head="mean"), 20)
    dynamo("dy29_resnet20a_view_op18.onnx", resnet(n=3, shortcut="A", head="reshape"))
    dynamo("dy29_resnet20a_cat_op18.onnx",
           resnet(n=3, shortcut="A, joined", head="view_mean"))
    dynamo("dy29_wrn10_op21.onnx", nets.WideResNet(k=2), 21)
    dynamo("dy29_wrn10_op23.onnx", nets.WideResNet(k=2), 23)
    dynamo("dy29_wrn10_noopt_op18.onnx", nets.WideResNet(), optimize=False)
    dynamo("dy29_preprocessed_softmax_op18.onnx", nets.Normalised(resnet(), True, 1 / 255))
    dynamo("dy29_vnn_op18.onnx", nets.Vnn(), dynamic=False, batch=1)
    dynamo("dy29_shared_op18.onnx", nets.Shared())
    dynamo("dy29_resnext_stem_op18.onnx", nets.Stem(groups=4), size=64)
    dynamo("dy29_tv_resnet18_op18.onnx", tv.resnet18(num_classes=10), size=64, external=True)
    dynamo("dy29_tv_resnext50_op18.onnx", tv.resnext50_32x4d(num_classes=10), size=64, external=True)
    dynamo("dy29_timm_resnet10t_op18.onnx", timm.create_model("resnet10t", num_classes=10), size=64)
    dynamo("dy29_timm_resnet18d_op20.onnx",
           timm.create_model("resnet18d", num_classes=10), 20, size=64, external=True)
    dynamo("dy29_timm_seresnet18_op18.onnx",
           timm.create_model("seresnet18", num_classes=10), size=64, external=True)
    dynamo("dy29_gelu_op20.onnx", resnet(act=nn.GELU), 20)


# At their own sizes, with their own 1000 classes, which is what a user has.
VISION = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2",
          "resnext50_32x4d", "vgg11", "vgg11_bn", "vgg16", "vgg16_bn", "mobilenet_v2", "mnasnet0_5",
          "mobilenet_v3_small", "shufflenet_v2_x0_5", "densenet121", "squeezenet1_1"]
TIMM = ["resnet14t", "resnet26d", "resnet26t", "resnet34d", "resnet50c", "resnet50d", "resnet50t",
        "resnetaa50", "resnext50d_32x4d", "wide_resnet50_2",
        # refused
        "ecaresnet26t", "skresnet18", "resnest14d", "resnet33ts", "gcresnet33ts", "resnet50_gn",
        "resnetblur18", "resnetv2_50", "resnetrs50", "resnet51q"]


def families(library):
    """One process a network, so that memory stays small."""
    for net in VISION if library == "tv" else TIMM:
        file = f"{library}_{net}_op17.onnx"
        if os.path.exists(os.path.join(out, file)):
            continue
        if os.fork() == 0:
            family(library, net, file)
            os._exit(0)
        if os.wait()[1] != 0:
            sys.exit(f"{library} {net}: no file")


def family(library, net, file):
    torch.manual_seed(1)
    if library == "tv":
        import torchvision

        model, size = torchvision.models.get_model(net, weights=None), 224
    else:
        import timm

        model = timm.create_model(net, pretrained=False)
        size = model.default_cfg["input_size"][1]
    script("part_" + file, model, 17, size=size, deep=True, dynamo=False)
    os.replace(os.path.join(out, "part_" + file), os.path.join(out, file))


def depthwise():
    script("ts29_depthwise_op17.onnx", nets.Depthwise(), 17, dynamo=False)
    script("ts29_depthwise_relu6_op17.onnx", nets.Depthwise(nn.ReLU6), 17, dynamo=False)
    dynamo("dy29_depthwise_op18.onnx", nets.Depthwise())
    dynamo("dy29_depthwise_relu6_op20.onnx", nets.Depthwise(nn.ReLU6), 20)
    dynamo("dy29_relu6_op18.onnx", resnet(act=nn.ReLU6))


def torch_25():
    fixed = {"dynamic": False, "batch": 1}  # this release fails on most dynamic shapes
    dynamo("dy25_resnet8_op18.onnx", resnet(), **fixed)
    dynamo("dy25_resnet8_mean_op18.onnx", resnet(head="mean"))
    dynamo("dy25_wrn10_op18.onnx", nets.WideResNet(k=2), **fixed)
    dynamo("dy25_vnn_op18.onnx", nets.Vnn(), **fixed)
    dynamo("dy25_resnet20a_op18.onnx", resnet(n=3, shortcut="A"), **fixed)


def tiny(**k):
    return nets.ResNetCifar(width=2, size=8, **k)


def small_113():  # the files of tests/zoo/small, for tests/importer/test_zoo.c
    t = torch.onnx.TrainingMode
    script("ts113_option_a.onnx", tiny(shortcut="A", head="avg_view"), 11, size=8)
    script("ts113_training.onnx", tiny(head="mean"), 15, size=8, training=t.TRAINING,
           do_constant_folding=False)
    script("ts113_softmax.onnx", nets.Normalised(tiny(), softmax=True), 12, size=8)


def small_29():
    dynamo("dy29_two_files.onnx", tiny(), size=8, external=True)
    dynamo("dy29_not_optimised.onnx", tiny(head="mean"), size=8, optimize=False)


def small_25():
    dynamo("dy25_functions.onnx", tiny(shortcut="A", head="mean"), size=8, dynamic=False, batch=1)


sets = {"ts113": torchscript_113, "t29": torch_29, "t25": torch_25, "depthwise": depthwise,
        "tv": lambda: families("tv"), "timm": lambda: families("timm"),
        "small113": small_113, "small29": small_29, "small25": small_25}
sets[which]()
