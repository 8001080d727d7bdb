"""A trained run outside of its folder: as a model that reads unscaled inputs, shared, exported, or asked in bulk.

deployed.py    the model with the scaling of its inputs and all that is needed to build it again
opening.py     from a folder of `concordant run` to such a model
raw.py         the unscaled instances of a benchmark, and of another prepared dataset
pretrained.py  sharing, through huggingface_hub; model_card.py, the page beside the weights
graph.py       from the model to a graph; export.py, to a file that is checked; onnx_file.py, ONNX and its runtime
predicting.py  predictions of many instances, to a file
"""
