"""The picture encoder as an ONNX graph, run by ONNX Runtime or by OpenVINO. The graph is written node by node: no
exporter is between it and encoder.py's formulas, and the last layer takes the read-out row alone behind its keys and
values. bf16: OpenVINO by its own precision hint; ONNX Runtime has no bf16 kernels for processors."""
import numpy as np

from worker import PRESETS, arguments, missing, serve

options = arguments("onnxruntime", "openvino")
try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    missing(error)

size = PRESETS[options.preset]
WIDTH, HEADS = size["width"], size["heads"]
random = np.random.default_rng(1)


class Graph:
    def __init__(self):
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, value):
        self.count += 1
        name = f"c{self.count}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind, *inputs, **attributes):
        self.count += 1
        name = f"n{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def weight(self, *shape):
        return self.constant((random.standard_normal(shape) * 0.02).astype(np.float32))

    def linear(self, x, inputs, outputs):
        return self.node("Add", self.node("MatMul", x, self.weight(inputs, outputs)), self.weight(outputs))

    def norm(self, x):
        return self.node("LayerNormalization", x, self.weight(WIDTH), self.weight(WIDTH), axis=-1, epsilon=1e-5)

    def first_row(self, x):
        return self.node("Slice", x, *(self.constant(np.array([n])) for n in (0, 1, 1)))

    def heads(self, x, order):
        shape = self.constant(np.array([0, 0, HEADS, WIDTH // HEADS]))
        return self.node("Transpose", self.node("Reshape", x, shape), perm=order)

    def attention(self, normed, narrow):
        q = self.linear(self.first_row(normed) if narrow else normed, WIDTH, WIDTH)
        k, v = self.linear(normed, WIDTH, WIDTH), self.linear(normed, WIDTH, WIDTH)
        scale = self.constant(np.float32((WIDTH // HEADS) ** -0.5))
        scores = self.node("MatMul", self.heads(q, [0, 2, 1, 3]), self.heads(k, [0, 2, 3, 1]))
        shares = self.node("Softmax", self.node("Mul", scores, scale), axis=-1)
        mixed = self.node("Transpose", self.node("MatMul", shares, self.heads(v, [0, 2, 1, 3])), perm=[0, 2, 1, 3])
        mixed = self.node("Reshape", mixed, self.constant(np.array([0, 0, WIDTH])))
        return self.linear(mixed, WIDTH, WIDTH)

    def layer(self, x, narrow):
        mixed = self.attention(self.norm(x), narrow)
        x = self.node("Add", self.first_row(x) if narrow else x, mixed)
        hidden = self.node("Gelu", self.linear(self.norm(x), WIDTH, size["ffn"]))
        return self.node("Add", x, self.linear(hidden, size["ffn"], WIDTH))


def build():
    g = Graph()
    tokens = g.node("Add", g.linear("pictures", size["patch"], WIDTH), g.weight(size["cells"], WIDTH))
    leading = g.weight(options.batch, 1, WIDTH)
    x = g.node("Concat", g.norm(leading), g.norm(tokens), axis=1)
    for layer in range(size["layers"]):
        x = g.layer(x, layer == size["layers"] - 1)
    shape = [options.batch, size["cells"], size["patch"]]
    inputs = [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info(x, TensorProto.FLOAT, [options.batch, 1, WIDTH])]
    graph = helper.make_graph(g.nodes, "encoder", inputs, outputs, g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


pictures = random.standard_normal((options.batch, size["cells"], size["patch"])).astype(np.float32)
if options.step == "onnxruntime":
    try:
        import onnxruntime
    except ImportError as error:
        missing(error)
    if options.dtype == "bf16":
        missing("ONNX Runtime has no bf16 kernels for processors")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(build(), settings, providers=["CPUExecutionProvider"])
    version = f"onnxruntime {onnxruntime.__version__}"

    def run():
        session.run(None, {"pictures": pictures})

else:
    try:
        import openvino
    except ImportError as error:
        missing(error)
    core = openvino.Core()
    hints = {
        "INFERENCE_NUM_THREADS": options.threads,
        "INFERENCE_PRECISION_HINT": options.dtype,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(core.read_model(build(), b""), "CPU", hints).create_infer_request()
    version = f"openvino {openvino.__version__.split('-')[0]}"

    def run():
        request.infer({0: pictures})


serve(run, version, samples=options.batch, tokens=options.batch * (1 + size["cells"]))
