"""The demonstration: a real sentence encoder whose linear layers run through torch.ops.kgen.wvsplitk.

checkpoint   find and read the model, without network
wordpiece    its tokeniser
encoder      its mathematics; every linear layer is a function that is passed in
linears      that function through kgen, with each result judged against the exact one
report       what a run found, as data
run          all of it in order
"""
