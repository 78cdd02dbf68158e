"""Teachers: thin builders over PyG's own layers, `(in_features, classes, **options) -> Module`."""

from graphkd.extras import needs_extra

with needs_extra("graphkd.teachers"):
    from graphkd.teachers.appnp import appnp
    from graphkd.teachers.gat import gat
    from graphkd.teachers.gcn import gcn
    from graphkd.teachers.hopwise import hopwise
    from graphkd.teachers.mcmi import mcmi
    from graphkd.teachers.sage import sage
    from graphkd.teachers.sgc import sgc
    from graphkd.teachers.vq import vqsage

TEACHERS = {builder.__name__: builder for builder in (appnp, gat, gcn, hopwise, sage, sgc, vqsage)}

WEIGHT_DECAY = {"appnp": 0.01, "gat": 0.01, "gcn": 1e-3, "sage": 5e-4, "vqsage": 5e-4}
"""With which the published figures of a teacher were reached; of the others it is 5e-4."""

TUNES = {"mcmi": mcmi}
"""Ways to fine-tune a trained teacher for its student: `tune(network, setting, **options) -> History`."""

__all__ = ["TEACHERS", "TUNES", "WEIGHT_DECAY", "appnp", "gat", "gcn", "hopwise", "mcmi", "sage", "sgc", "vqsage"]
