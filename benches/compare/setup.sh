#!/bin/sh
# Makes the environment of the peers: setup.sh FOLDER. Needs python3 (3.10 to 3.12) and a few gigabytes of disk.
# PyTorch and transformers only make models and ONNX files; ONNX Runtime and OpenVINO are what frit is compared with.
set -eu
folder=${1:?"usage: setup.sh FOLDER"}
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet \
    torch "transformers==4.37.2" "numpy<2" onnx onnxruntime openvino safetensors sentencepiece pillow scipy
"$folder/bin/python" -c "
import onnxruntime, openvino, torch, transformers
print('torch', torch.__version__, '| transformers', transformers.__version__)
print('ONNX Runtime', onnxruntime.__version__, '| OpenVINO', openvino.__version__)"
echo "now: $folder/bin/python $(dirname "$0")/compare.py --help"
