"""linnet from Python: ctypes over liblinnet.so, numpy arrays in and out.

    import linnet
    model = linnet.Model("resnet20.onnx", normalize="imagenet")
    logits = model.logits(pixels)                      # [n,C,H,W] in [0,1] -> [n,K], float32
    logits, grad = model.gradient(pixels, upstream)    # d sum(upstream * logits) / d pixels
    report = model.evaluate(data="cifar10:DIR", attack=["pgd", "autoattack:fast"], limit=1000)
    linnet.linearize("resnet20.onnx", data="cifar10:DIR", relus="10%", preset="quick", output="out")

Options are those of the command line, with underscores for dashes; a list gives an option several times.
Errors raise linnet.Error with the sentence that names the thing, the rule and a hint. progress(task, done,
text) is called during long work; what it returns true for stops the work, which then raises
linnet.Interrupted. The library is searched beside this file, then as the system does; LINNET_LIBRARY names
another.
"""

import ctypes
import json
import os

import numpy as np

__all__ = ["Error", "Interrupted", "Model", "linearize", "sweep", "train", "export", "inspect", "page", "version"]

_INTERRUPTED = -13


class Error(RuntimeError):
    """A failure; code is the negative number of enum linnet_error."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Interrupted(Error):
    """progress asked for it."""


class _Info(ctypes.Structure):
    _fields_ = [(n, ctypes.c_int64) for n in ("channels", "height", "width", "classes", "branches", "parameters",
                                              "macs", "relus_total", "relus_kept", "channels_last", "relu_evaluations")]


_MESSAGE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
_PROGRESS = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_double, ctypes.c_char_p)
_STOP = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


class _Listener(ctypes.Structure):
    _fields_ = [("ctx", ctypes.c_void_p), ("message", _MESSAGE), ("progress", _PROGRESS), ("interrupted", _STOP),
                ("plan", ctypes.c_void_p)]


def _load():
    named = os.environ.get("LINNET_LIBRARY")
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "liblinnet.so")
    lib = ctypes.CDLL(named or (beside if os.path.exists(beside) else "liblinnet.so.0"))
    void, text, integer, floats = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.POINTER(ctypes.c_float)
    listener = ctypes.POINTER(_Listener)
    out = ctypes.POINTER(void)
    for name, result, args in [
        ("message", text, []), ("version", text, []),
        ("options_new", integer, [text, out]), ("options_free", None, [void]),
        ("options_set", integer, [void, text, text]),
        ("report_json", text, [void]), ("report_free", None, [void]),
        ("open", integer, [text, void, listener, out]), ("close", None, [void]),
        ("model_info", ctypes.POINTER(_Info), [void]),
        ("branch", integer, [void, text, ctypes.POINTER(integer)]),
        ("logits", integer, [void, integer, floats, ctypes.c_int64, floats]),
        ("gradient", integer, [void, integer, floats, ctypes.c_int64, floats, floats, floats]),
        ("inspect", integer, [text, void, out]),
        ("evaluate", integer, [void, void, listener, out]),
        ("train", integer, [text, void, listener, out]),
        ("linearize", integer, [text, void, listener, out]),
        ("sweep", integer, [text, void, listener, out]),
        ("export", integer, [void, void, listener]),
        ("page", integer, [ctypes.POINTER(text), integer, text]),
    ]:
        f = getattr(lib, "linnet_" + name)
        f.restype, f.argtypes = result, args
    return lib


_lib = _load()


def _check(code):
    if code < 0:
        kind = Interrupted if code == _INTERRUPTED else Error
        raise kind(code, _lib.linnet_message().decode("utf-8", "replace"))


class _Options:
    def __init__(self, task, options):
        self.handle = ctypes.c_void_p()
        _check(_lib.linnet_options_new(task.encode(), ctypes.byref(self.handle)))
        try:
            for name, value in options.items():
                for v in value if isinstance(value, (list, tuple)) else [value]:
                    if v is not None:
                        word = str(v).lower() if isinstance(v, bool) else str(v)
                        _check(_lib.linnet_options_set(self.handle, name.replace("_", "-").encode(), word.encode()))
        except Error:
            self.free()
            raise

    def free(self):
        _lib.linnet_options_free(self.handle)
        self.handle = None


def _listener(progress):
    """The struct, and whether progress has asked to stop. An exception of progress stops too."""
    state = {"stop": False, "error": None}

    def on_progress(_ctx, task, done, text):
        try:
            words = None if text is None else text.decode("utf-8", "replace")
            if progress is not None and progress(task.decode(), done, words):
                state["stop"] = True
        except BaseException as e:  # cannot travel through C
            state["stop"], state["error"] = True, e

    return _Listener(None, _MESSAGE(0), _PROGRESS(on_progress), _STOP(lambda _ctx: int(state["stop"])), None), state


def _run(task, call, progress, options, report=True):
    o = _Options(task, options)
    listener, state = _listener(progress)
    r = ctypes.c_void_p()
    try:
        args = [o.handle, ctypes.byref(listener)] + ([ctypes.byref(r)] if report else [])
        code = call(*args)
        if state["error"] is not None:
            raise state["error"]
        _check(code)
        return json.loads(_lib.linnet_report_json(r)) if r else None
    finally:
        _lib.linnet_report_free(r)
        o.free()


def _floats(a):
    return a.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


class Model:
    """An ONNX classifier or a checkpoint. branch: "clean", "adv" or "single", through which
    logits and gradients go; by default the first, which is the only one of an exported file."""

    def __init__(self, path, branch=None, **options):
        self._handle = ctypes.c_void_p()
        o = _Options("open", options)
        try:
            _check(_lib.linnet_open(os.fspath(path).encode(), o.handle, None, ctypes.byref(self._handle)))
        finally:
            o.free()
        info = _lib.linnet_model_info(self._handle).contents
        for name, _kind in _Info._fields_:
            setattr(self, name, getattr(info, name))
        number = ctypes.c_int(0)
        if branch is not None:
            _check(_lib.linnet_branch(self._handle, branch.encode(), ctypes.byref(number)))
        self._branch = number.value

    def close(self):
        _lib.linnet_close(self._handle)
        self._handle = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if getattr(self, "_handle", None):
            self.close()

    def _pixels(self, pixels):
        x = np.ascontiguousarray(pixels, dtype=np.float32)
        want = (self.channels, self.height, self.width)
        if x.ndim != 4 or x.shape[1:] != want:
            raise ValueError(f"pixels have shape {x.shape}, the model takes [n,{want[0]},{want[1]},{want[2]}]")
        return x

    def logits(self, pixels):
        """pixels [n,C,H,W] in [0,1], before normalisation -> [n,K]."""
        x = self._pixels(pixels)
        z = np.empty((len(x), self.classes), np.float32)
        _check(_lib.linnet_logits(self._handle, self._branch, _floats(x), len(x), _floats(z)))
        return z

    def gradient(self, pixels, upstream):
        """(logits [n,K], gradient [n,C,H,W]) of sum(upstream * logits) with respect to the pixels."""
        x = self._pixels(pixels)
        u = np.ascontiguousarray(upstream, dtype=np.float32)
        if u.shape != (len(x), self.classes):
            raise ValueError(f"upstream has shape {u.shape}, needs [{len(x)},{self.classes}]")
        z, g = np.empty_like(u), np.empty_like(x)
        _check(_lib.linnet_gradient(self._handle, self._branch, _floats(x), len(x), _floats(u), _floats(g),
                                    _floats(z)))
        return z, g

    def evaluate(self, progress=None, **options):
        """The report of `linnet eval` as a dict."""
        return _run("eval", lambda o, l, r: _lib.linnet_evaluate(self._handle, o, l, r), progress, options)

    def export(self, progress=None, **options):
        """`linnet export`: output="y.onnx", pi="DIR"."""
        _run("export", lambda o, l: _lib.linnet_export(self._handle, o, l), progress, options, report=False)


def _on_path(task, path, progress, options):
    call = getattr(_lib, "linnet_" + task)
    return _run(task, lambda o, l, r: call(os.fspath(path).encode(), o, l, r), progress, options)


def train(path, progress=None, **options):
    return _on_path("train", path, progress, options)


def linearize(path, progress=None, **options):
    return _on_path("linearize", path, progress, options)


def sweep(path, progress=None, **options):
    return _on_path("sweep", path, progress, options)


def export(path, progress=None, **options):
    with Model(path, **{k: v for k, v in options.items() if k in ("normalize",)}) as m:
        m.export(progress, **options)


def inspect(path, **options):
    return _run("inspect", lambda o, _l, r: _lib.linnet_inspect(os.fspath(path).encode(), o, r), None, options)


def page(folders, path):
    names = [os.fspath(f).encode() for f in ([folders] if isinstance(folders, (str, os.PathLike)) else folders)]
    array = (ctypes.c_char_p * len(names))(*names)
    _check(_lib.linnet_page(array, len(names), os.fspath(path).encode()))


def version():
    return _lib.linnet_version().decode()
