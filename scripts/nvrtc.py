"""nvrtc.py ARCHITECTURE FILE OUT.ptx KERNELS - compiles the kernels of a CUDA source with the NVRTC of the Python package
nvidia-cuda-nvrtc-cu12 for scripts/cuda_compile.sh. KERNELS is a file of their names, one a line."""
import ctypes
import glob
import os
import sys

architecture, source, out, kernels = sys.argv[1:]
packages = glob.glob(os.path.join(sys.prefix, "lib/python3*/site-packages/nvidia"))[0]
library = ctypes.CDLL(glob.glob(packages + "/cuda_nvrtc/lib/libnvrtc.so.*")[0])
program = ctypes.c_void_p()


def text(size_of, read):
    """What a pair of functions (its size, its bytes) tells of the program."""
    size = ctypes.c_size_t()
    size_of(program, ctypes.byref(size))
    room = ctypes.create_string_buffer(size.value)
    read(program, room)
    return room.value.decode()


with open(source, "rb") as file:
    if library.nvrtcCreateProgram(ctypes.byref(program), file.read(), source.encode(), 0, None, None):
        sys.exit("nvrtc: no program")
with open(kernels) as file:
    for name in file.read().splitlines():
        if library.nvrtcAddNameExpression(program, name.encode()):
            sys.exit(f"nvrtc: the name {name!r} is refused")
folders = [os.path.dirname(source) or ".", ".", "include"]
folders += [f"{packages}/{part}/include" for part in ("cuda_runtime", "cuda_cccl", "cuda_nvcc")]
options = [f"--gpu-architecture=compute_{architecture}", "--std=c++17"] + ["-I" + folder for folder in folders]
array = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
status = library.nvrtcCompileProgram(program, len(options), array)
print(text(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog))
if status:
    sys.exit(f"nvrtc: {source} does not compile for sm_{architecture}")
with open(out, "w") as file:
    file.write(text(library.nvrtcGetPTXSize, library.nvrtcGetPTX))
