_base_ = "../../_base_/links.py"
data = "citeseer"
methods = [dict(type="llp")]
settings = ["tran", dict(type="prod", new=0.3, val=0.3, test=0.3)]
