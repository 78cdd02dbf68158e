_base_ = "../../_base_/graph.py"
data = "cane_cora"
# TAPE: a graph network each on what a language model makes of the texts, on what it makes of the explanations that
# another one wrote, and on the classes that the latter ranks first; the prediction is the mean of theirs,
#   p_i = (softmax f_T(h^T, A)_i + softmax f_E(h^E, A)_i + softmax f_P(onehot(rank_i), A)_i) / 3,
# and what their students are taught. He et al., "Harnessing Explanations: LLM-to-LM Interpreter for Enhanced
# Text-Attributed Graph Representation Learning", ICLR 2024; the authors' code takes the mean of the logits, that of the
# predictions is our own. There the encoder is tuned on the labels first
# (`graphkd finetune`), and ranks and explanations are parsed from one answer; here the ranks are those of the labels'
# scores. The first linear layer on the one-hot ranks is the paper's embedding of them. With CAUSAL, a causal model:
#   python tools/embed_text.py cane_cora --model ENCODER --budget 160 --out work_dirs/text/cane_cora
#   python tools/embed_text.py cane_cora --model CAUSAL --hops 0 --budget 512 --labels "neural networks,..." \
#     --explain 128 --out work_dirs/text/cane_cora_explained
#   python tools/embed_text.py cane_cora --model ENCODER --hops 0 --explanations work_dirs/text/cane_cora_explained \
#     --out work_dirs/text/cane_cora_explanations
settings = ["tran"]
teacher = [
    dict(type="hopwise", conv="gcn", dropout=0.7, source="work_dirs/text/cane_cora", inputs=0),
    dict(type="hopwise", conv="gcn", dropout=0.7, source="work_dirs/text/cane_cora_explanations", inputs=0),
    dict(type="hopwise", conv="gcn", dropout=0.7, source="work_dirs/text/cane_cora_explained", inputs=dict(top=3)),
]
references = [
    dict(type="hopwise", conv="gcn", dropout=0.7, epochs=200),
    dict(teacher[0], epochs=200),
]
methods = [dict(type="glnn")]
