"""Trained runs outside their folder: as a model of unscaled inputs, shared, exported, or applied to many instances.

deployed.py    the model with the scaling of its inputs and all that is needed to build it again
opening.py     from a folder of `concordant run` to such a model
raw.py         the unscaled instances of a benchmark, and of another prepared dataset
pretrained.py  sharing, through huggingface_hub; model_card.py, the page beside the weights
graph.py       from the model to a graph; export.py, to a file that is checked; onnx_file.py, ONNX and its runtime
predicting.py  predictions of many instances, to a file
"""
