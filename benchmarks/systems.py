"""The systems that are reproduced: what of each is where, the test of its idea, and what it is compared with.

A row holds what cannot be derived. Registries tell what its parts are, the folders of configs and the rows of
`densekd.pairs` where it runs, and logs what it is worth: `benchmarks/ablations.py` writes them, and the page of systems
is made of all that by `docs/hooks/pages.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Without(NamedTuple):
    """Two students of one config on nodes: methods as tables call them, `graphkd.pipeline.logs.labels`."""

    taught: str
    plain: str
    """The nearest form without the idea; `supervised` is the control."""


class Measured(NamedTuple):
    """Two rows of a log that another command wrote, in its first metric; `plain` is the control if it is not given.

    A row of another log, of the same schedule and seeds, is `log:method`.
    """

    log: str
    taught: str
    plain: str = "supervised"
    metric: str = ""


class System(NamedTuple):
    """One published system.

    `name` is the paper's, `parts` what it is registered as, names apart by spaces; what is in no registry has its
    import path. `test` is the test of the defining idea, `path::name`. The configs on `nodes` and on `pixels` are those
    in the folder of the first part that has one, if not given here: a path below `configs/`, or, without a `.py`, words
    why the side has no meaning. `nodes_result` and `pixels_result` say what is compared, or, in words, why nothing is.
    `open` names what the paper has and this package lacks. Sides without a config and rows without a test are found.
    """

    name: str
    parts: str
    test: str
    nodes: str = ""
    pixels: str = ""
    nodes_result: Without | Measured | str = ""
    pixels_result: Measured | str = ""
    open: str = ""

    def config(self, side: str) -> str:
        """The config on 'nodes' or on 'pixels', as a path below `configs/`; words where there is none; else ''."""
        from densekd.pairs import ROWS

        said = self.nodes if side == "nodes" else self.pixels
        tasks = ("graph", "links", "tasks") if side == "nodes" else ("seg", "det", "bev")
        if said:
            return said
        names = [
            *sorted(path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").glob("*/*/*.py")),
            *ROWS,
        ]
        for part in self.parts.split():
            found = [name for name in names if name.split("/")[0] in tasks and name.split("/")[1] == part]
            small = [name for name in found if Path(name).stem in ("digits", "scenes_fpn", "scenes_mit")]
            if found:
                return (small or found)[0]
        return ""

    def lacks(self) -> str:
        """All that is open, '' if nothing is."""
        sides = [f"no config on {side}" for side in ("nodes", "pixels") if not self.config(side)]
        return "; ".join([each for each in (self.open, *sides, "" if self.test else "no test") if each])

    @property
    def key(self) -> str:
        """The name of its log: the first part."""
        return self.parts.split()[0].rpartition(".")[2]


_LOGIT, _FEATURE = "tests/kdlosses/logit/test_{0}.py::{1}", "tests/kdlosses/feature/test_{0}.py::{1}"
_POLICY = "tests/kdlosses/policy/test_{0}.py::{1}"
_OURS = "tests/kdlosses/rules/test_{0}.py::{1}"
_PAIRS, _RELATION = "tests/kdlosses/contrastive/test_{0}.py::{1}", "tests/kdlosses/relation/test_{0}.py::{1}"
_TEACHER = "tests/graphkd/teachers/test_{0}.py::{1}"
_GRAPH, _DENSE = "tests/graphkd/test_{0}.py::{1}", "tests/densekd/{0}.py::{1}"
_RECIPE = "tests/graphkd/recipes/test_{0}.py::{1}"

_FEATURES_ALONE = "its student reads features alone, its teacher edges: pixels have no graph to leave out"
_EDGES = "it reads the edges of a graph"
_MAPS = "it reads places of a map, which nodes have not"

SHARED = (
    System(
        "TGeo-KD",
        "tgeo FusionRatio",
        _GRAPH.format("mixing", "test_the_ratio_moves_towards_whoever_is_right"),
        nodes_result=Without("tgeo", "tgeo(lam=0.5)"),
        pixels_result=Measured("seg/digits-tgeo", "tgeo"),
    ),
    System(
        "NKD",
        "nkd",
        _LOGIT.format("nkd", "test_the_other_classes_are_compared_whatever_the_label_has"),
        pixels="seg/nkd/scenes_losses.py",
        nodes_result=Without("terms(nkd)", "terms(ofa)"),
        pixels_result=Measured("seg/scenes_teachers", "nkd", "kl"),
    ),
    System(
        "USKD",
        "uskd",
        _LOGIT.format("uskd", "test_the_weak_head_learns_and_ranks_the_other_classes_for_the_student"),
        nodes_result=Measured("graph/uskd-digits.json", "terms(uskd(mu=0.1), lam=0.5)"),
        pixels="seg/uskd/scenes_losses.py",
        pixels_result=Measured("seg/scenes_teachers", "uskd", "kl"),
    ),
    System(
        "MTARD",
        "mtard",
        _GRAPH.format("live", "test_mtard_asks_the_robust_teacher_about_the_attacked_features"),
        pixels="attacks are of plain models, `densekd.plain.adversarial`: no config of OpenMMLab trains with them",
        nodes_result=Measured("shifted/digits.json:attacked", "mtard", "no attack"),
    ),
    System(
        "RMT",
        "kdlosses.adaptation.RobustMeanTeacher graphkd.students.adapting.Adapting mean_teacher sce",
        "tests/kdlosses/test_adaptation.py::test_each_part_adapts_further_than_the_others_without_it",
        nodes="graph/mean_teacher/digits.py",
        pixels="it adapts any model while it predicts, see `benchmarks/shifted.py pixels`: no config trains it",
        nodes_result=Measured("shifted/digits.json:nodes", "robust mean teacher", "as it is"),
        pixels_result="no log is kept",
    ),
    System(
        "DAC-KL",
        "dac_kl",
        _LOGIT.format("dac_kl", "test_the_network_finds_the_dense_classes_of_the_teacher"),
        nodes_result=Without("terms(dac_kl)", "terms(kl)"),
        pixels_result=Measured("seg/scenes_losses", "dac_kl", "kl"),
    ),
    System(
        "Facial landmark points",
        "assistive kdlosses.soft_targets.SoftTargets",
        _GRAPH.format("tasks", "test_points_have_a_tough_and_a_tolerant_teacher_by_a_config"),
        nodes_result=Measured("graph/assistive-digits.json", "terms(assistive)", "terms(mse)"),
        pixels="points are given as `context=dict(targets=...)` to any PyTorch model: no config predicts them",
    ),
    System(
        "HASTE",
        "until attention_rows",
        _POLICY.format("until", "test_on_before_the_stop_and_off_from_it_on"),
        nodes_result=Without("terms(kl, until(cka))", "terms(kl, cka)"),
        pixels_result=Measured("seg/digits-until", "until(cwd)"),
    ),
    System(
        "DMAE",
        "dmae densekd.hub.masked.MaskedPretraining",
        "tests/densekd/hub/test_masked.py::test_teacher_and_student_of_dmae_see_the_same_patches",
        nodes="nodes have no patches to leave out",
        pixels_result=Measured("pretrain/masked_camvid", "dmae, then specific", "specific"),
    ),
    System(
        "ND",
        "nd",
        "tests/densekd/methods/test_nd.py::test_objects_come_closer_to_the_means_of_their_class_than_by_labels_alone",
        nodes_result=Without("terms(kl, nd)", "terms(kl)"),
        pixels_result=Measured("det/digits_gfl", "nd_auto"),
    ),
    System(
        "TRG",
        "trg",
        _RELATION.format("trg", "test_only_the_teachers_nearest_tokens_of_any_instance_are_a_tokens_graph"),
        nodes_result=Without("terms(kl, trg)", "terms(kl)"),
        pixels_result=Measured("seg/scenes_losses", "trg", "kl"),
    ),
    System(
        "DDK",
        "ddk domain_weights",
        _GRAPH.format("selection", "test_domains_are_drawn_by_their_gap"),
        nodes_result=Without("ddk", "ddk(floor=1.0)"),
        pixels_result=Measured("seg/digits-ddk", "kl"),
    ),
    System(
        "Quantised distillation",
        "quant_distill diff_quant rounded quantised quantise EvenPoints LearntPoints",
        _GRAPH.format("few_bits", "test_two_bits_taught_are_better_than_two_bits_rounded"),
        nodes_result=Without("quant_distill(bits=2)", "rounded(glnn(lam=0.3), bits=2)"),
        pixels_result=Measured("seg/digits-quantised", "kl"),
    ),
    System(
        "MEAL V2",
        "meal adversary",
        _POLICY.format("adversary", "test_a_student_against_whom_it_plays_is_not_told_apart"),
        nodes="graph/adversary/digits.py",
        nodes_result=Without("terms(adversary(meal))", "terms(meal)"),
        pixels_result=Measured("seg/digits-meal", "meal"),
    ),
    System(
        "ERNIE-Tiny",
        "stages progressive",
        "tests/densekd/policies/test_stages.py::test_a_stage_changes_data_teacher_and_loss_at_one_step",
        pixels="seg/progressive/digits.py",
        nodes_result=Without("progressive(terms(stages))", "terms(stages)"),
        pixels_result=Measured("seg/digits-progressive", "stages(pkd)+stages(cwd)"),
    ),
    System(
        "Distiller",
        "mi_alpha graphkd.tune densekd.tune",
        _PAIRS.format("mi_alpha", "test_critic_finds_dependence_and_none_where_there_is_none"),
        nodes_result=Without("terms(kl, mi_alpha)", "terms(kl)"),
        pixels_result=Measured("seg/scenes_losses", "mi_alpha", "kl"),
    ),
    System(
        "Cr-KD",
        "crkd discovery balanced graphkd.training.matched.matched_accuracy",
        _GRAPH.format("discovery", "test_the_relation_to_known_classes_finds_new_ones_and_clusters_alone_lose_it"),
        nodes_result=Measured(
            "graph/crkd-digits.json",
            "discovery(known=[0, 1, 2, 3, 4])",
            "discovery(known=[0, 1, 2, 3, 4], relation=0.0)",
            "tran matched_accuracy_new",
        ),
        pixels_result=Measured("seg/scenes_losses", "crkd", "kl"),
    ),
    System(
        "COMODO",
        "comodo",
        _PAIRS.format("comodo", "test_formula_over_a_run_of_batches"),
        nodes_result=Without("terms(kl, comodo)", "terms(kl)"),
        pixels_result=Measured("seg/scenes_losses", "comodo", "kl"),
    ),
    System(
        "DisWOT",
        "diswot evolve graphkd.rank_students graphkd.search_students densekd.search_students",
        _GRAPH.format("ranking", "test_the_search_finds_the_best_of_all_that_the_budget_allows"),
        nodes="it trains nothing: `graphkd rank` is its command",
        nodes_result="it trains nothing; a test compares its order with that after training",
        pixels_result="what `densekd rank` finds is not trained",
    ),
    System(
        "CMD",
        "cmd",
        _PAIRS.format("cmd", "test_attention_finds_the_few_instances_that_tell_a_whole"),
        nodes_result=Without("terms(kl, cmd)", "terms(kl)"),
        pixels_result=Measured("seg/scenes_losses", "cmd", "kl"),
    ),
    System(
        "LELP",
        "lelp kdlosses.outputs.Subclasses",
        _GRAPH.format("heads", "test_subclasses_of_two_classes_find_kinds_that_the_labels_do_not_name"),
        nodes_result=Measured("graph/lelp-digits.json", "lelp(subclasses=5)", "glnn"),
        pixels_result=Measured("seg/scenes-lelp", "lelp"),
    ),
    System(
        "MST-Distill",
        "mst_distill densekd.policies.MSTDistill",
        _GRAPH.format("several_teachers", "test_each_teacher_is_masked_inside_for_the_student"),
        nodes_result=Without("mst_distill", "terms(average(kl))"),
        pixels_result=Measured("seg/scenes_teachers", "mst_distill", "average"),
    ),
    System(
        "DSE",
        "dse",
        _GRAPH.format("links", "test_dse_reconstructs_the_scores_that_its_teacher_gives"),
        pixels="it scores pairs of sentences, here of nodes: a pixel has no partner",
        nodes_result="links are scored by other measures: see the config",
    ),
    System(
        "LEAF",
        "leaf",
        _FEATURE.format("leaf", "test_queries_of_the_student_find_their_document_in_the_index_of_the_teacher"),
        nodes_result=Without("terms(leaf)", "supervised"),
        pixels_result=Measured("seg/scenes_losses", "leaf", "kl"),
    ),
    System(
        "KD3",
        "kd3 confident confident_feature share_classifier mix_statistics kdlosses.outputs.SharedClassifier "
        "densekd.models.MixDistributionPreProcessor",
        _GRAPH.format("mixing", "test_the_teachers_classifier_is_the_students_and_its_features_are_learned"),
        nodes_result=Without("kd3", "glnn"),
        pixels_result=Measured("seg/scenes-kd3", "kd3"),
    ),
    System(
        "Swing",
        "swing",
        _LOGIT.format("swing", "test_an_attack_learns_little_of_private_positions"),
        nodes_result="it costs accuracy and buys privacy, which the test's attack measures",
        pixels_result=Measured("seg/scenes_losses", "swing", "kl"),
    ),
    System(
        "KnFu",
        "knfu graphkd.federate densekd.federate",
        _GRAPH.format("federate", "test_knfu_is_better_than_all_predictions_and_than_alone_where_clients_are_unlike"),
        nodes="federated/digits_alike.py",
        pixels="clients are any PyTorch models, `densekd.federate`: no config of OpenMMLab trains them",
        nodes_result=Measured("graph/federated-digits_alike.json", "knfu", "average"),
    ),
    System(
        "Mirage",
        "graphkd.condensing.mirage.mirage graphkd.condense graphkd.train_condensed",
        _GRAPH.format("condense", "test_a_student_learns_more_from_few_bytes_of_trees_than_of_graphs"),
        nodes="condensed/imdb_binary.py",  # 100 test graphs, of MUTAG 19
        pixels=_EDGES,
        nodes_result=Measured("graph/condensed-imdb_binary.json", "mirage"),
        open="labels of edges: no set of graphs here has them",
    ),
    System(
        "FedD2S",
        "graphkd.federate densekd.federate",
        "tests/kdlosses/test_rounds.py::test_a_head_tells_a_client_what_the_labels_of_others_say_of_its_outputs",
        nodes="federated/digits.py",
        pixels="clients are any PyTorch models, `densekd.federate`: no config of OpenMMLab trains them",
        nodes_result=Measured("graph/federated-digits.json", "fedd2s"),
    ),
    System(
        "BD-KD",
        "online bd_kd",
        _LOGIT.format("bd_kd", "test_a_certain_student_has_to_cover_and_one_without_a_clue_to_choose"),
        nodes_result=Without("online", "online(kl)"),
        pixels_result=Measured("seg/scenes_losses", "bd_kd", "kl"),
    ),
    System(
        "HARD",
        "hard FeatureMask densekd.policies.Hard",
        _GRAPH.format("live", "test_hard_asks_about_the_features_that_the_student_sees"),
        nodes_result=Without("hard(bound=0.2)", "hard(bound=0.0)"),
        pixels_result=Measured("seg/digits-hard", "hard", "kl"),
    ),
    System(
        "Weight Aligning",
        "weight_align incremental",
        _GRAPH.format("network_policies", "test_aligned_weights_bring_the_old_classes_back"),
        nodes_result=Without("weight_align(incremental)", "incremental"),
        pixels="a policy of a run whose data bring new classes: no config here has such data",
    ),
    System(
        "OFA-KD",
        "ofa",
        _GRAPH.format("heads", "test_a_hidden_layer_tells_the_classes_through_its_head"),
        nodes_result=Measured("graph/ofa-digits.json", "terms(ofa, ofa+branch)", "terms(ofa)"),
        pixels="seg/ofa/scenes_losses.py",
        pixels_result=Measured("seg/scenes_teachers", "ofa", "kl"),
    ),
    System(
        "SinKD",
        "sinkd",
        _LOGIT.format("sinkd", "test_without_smoothing_it_is_the_best_assignment"),
        nodes_result=Without("terms(sinkd)", "terms(kl)"),
        pixels_result=Measured("seg/scenes_losses", "sinkd", "kl"),
    ),
    System(
        "Talking Models",
        "talking",
        _GRAPH.format("mixing", "test_a_message_of_the_student_goes_through_the_teachers_own_layers"),
        nodes_result=Without("talking", "glnn"),
        pixels="seg/talking/scenes_losses.py",
        pixels_result=Measured("seg/scenes_teachers", "talking", "kl"),
    ),
    System(
        "TAID",
        "taid",
        _LOGIT.format("taid", "test_t_rises_and_never_lags_behind_the_line"),
        nodes_result=Without("terms(taid)", "terms(kl)"),
        pixels_result=Measured("seg/scenes_losses", "taid", "kl"),
    ),
    System(
        "Mixup in KD",
        "mixup std_kd",
        _GRAPH.format("mixing", "test_mixup_is_its_formula"),
        nodes_result=Without("mixup(share=1.0)", "mixup(share=0.0)"),
        pixels_result=Measured("seg/digits-mixup", "std_kd"),
    ),
    System(
        "Data pruning with KD",
        "pruned stratified",
        _GRAPH.format("selection", "test_where_little_is_kept_the_teacher_is_worth_more"),
        nodes_result=Without("pruned(glnn(lam=0.5), keep=0.1)", "pruned(glnn(lam=1.0), keep=0.1)"),
        pixels_result=Measured("seg/digits-pruned", "kl"),
    ),
    System(
        "TopKLD",
        "topk_kl",
        _LOGIT.format("topk_kl", "test_all_classes_are_kl_and_none_are_rkl"),
        nodes_result=Without("terms(topk_kl)", "terms(kl)"),
        pixels_result=Measured("seg/scenes_losses", "topk_kl", "kl"),
    ),
    System(
        "ProKD",
        "prokd",
        _PAIRS.format("prokd", "test_the_student_trains_itself_on_what_prototypes_confirm"),
        nodes_result=Without("terms(prokd(self_training=1.0), lam=0.5)", "terms(prokd, lam=0.5)"),
        pixels_result=Measured("seg/digits-prokd", "prokd"),
    ),
    System(
        "MCMI",
        "mcmi",
        _GRAPH.format("network_policies", "test_a_tuned_teacher_tells_the_members_of_a_class_apart_and_stays_good"),
        nodes_result=Without("terms(average(weights=[1, 0]))", "terms(average(weights=[0, 1]))"),
        pixels_result=Measured("seg/digits-mcmi", "kl", "seg/digits-kl:kl"),
    ),
    System(
        "Self-distillation weights",
        "selfdistill selfdistill_weight densekd.selfdistill",
        _OURS.format("selfdistill_weight", "test_it_is_the_best_of_a_grid_of_kernel_ridge_fits"),
        nodes_result=Without("selfdistill(glnn)", "glnn"),
        pixels="`densekd.selfdistill` trains any PyTorch model again and again: no config of OpenMMLab does",
    ),
    System(
        "FerKD",
        "ferkd densekd.models.SelfMixPreProcessor",
        _LOGIT.format("ferkd", "test_hard_regions_are_mined_and_calibrated_as_a_whole"),
        nodes_result=Without("terms(ferkd)", "terms(kl)"),
        pixels_result=Measured("seg/scenes_losses", "ferkd", "kl"),
    ),
    System(
        "m2mKD",
        "m2m Spliced spliced densekd.policies.M2M",
        _GRAPH.format("network_policies", "test_layers_taught_one_by_one_are_a_head_start"),
        nodes_result=Without("m2m", "glnn"),
        pixels_result=Measured("seg/digits-m2m", "kl"),
    ),
    System(
        "Data-partition transfer",
        "partition",
        _POLICY.format("partition", "test_better_everywhere_is_distillation_and_worse_everywhere_stays"),
        nodes_result=Without("partition", "glnn"),
        pixels_result=Measured("seg/digits-partition", "partition", "seg/digits-kl:kl"),
    ),
    System(
        "DHKD",
        "dual_head dhkd align_gradients",
        _GRAPH.format("network_policies", "test_dual_head_bends_the_side_gradient_on_the_body_alone"),
        nodes_result=Measured("graph/dual_head-digits.json", "dual_head", "terms(dhkd)"),
        pixels="seg/dual_head/scenes_losses.py",
        pixels_result=Measured("seg/scenes_teachers", "dual_head", "kl"),
    ),
    System(
        "ProC-KD",
        "prockd",
        _PAIRS.format("prockd", "test_augmentation_lets_a_task_use_the_teachers_parts"),
        nodes_result=Without("terms(kl, prockd)", "terms(kl)"),
        pixels_result=Measured("seg/scenes_losses", "prockd", "kl"),
    ),
    System(
        "Robust Active Distillation",
        "rad",
        _OURS.format("rad", "test_it_is_the_maximin_strategy"),
        nodes_result=Without("rad(budget=0.1)", "rad(budget=0.1, select=random)"),
        pixels_result=Measured("seg/digits-rad", "kl"),
    ),
    System(
        "Hybrid Distillation",
        "hybrid",
        _RELATION.format("hybrid", "test_tokens_like_all_others_are_dropped"),
        nodes_result=Without("terms(kl, hybrid)", "terms(kl)"),
        pixels_result=Measured("seg/camvid_mit", "hybrid"),
    ),
    System(
        "G2SD",
        "g2sd densekd.hub.masked.MaskedPretraining",
        "tests/densekd/hub/test_masked.py::test_each_kind_is_learned_on_images_held_out",
        nodes="nodes have no patches to leave out",
        pixels_result=Measured("pretrain/masked_camvid", "g2sd, then specific", "specific"),
    ),
    System(
        "DistillNearest, DistillWeighted",
        "distill_weighted similar task_similarity source_weights",
        _OURS.format("similar", "test_a_source_of_the_same_task_is_nearest_and_all_are_shares"),
        pixels="a policy of `densekd.fit` with several teachers: no config has teachers of other tasks",
        nodes_result=Without("distill_weighted(power=4.0)", "distill_weighted(power=0.0)"),
    ),
    System(
        "Self-distilled further pre-training",
        "densekd.hub.masked.further",
        "tests/densekd/hub/test_masked.py::test_further_starts_from_the_first_weights_and_ends_near_its_later_self",
        nodes="nodes have no patches to leave out",
        pixels="`densekd pretrain --masked further` is its command: it needs no config",
        pixels_result=Measured("pretrain/masked_camvid", "further, then specific", "specific"),
    ),
    System(
        "DHO",
        "dho kdlosses.outputs.TwoHeads",
        "tests/kdlosses/test_outputs.py::test_two_heads_learn_apart_and_predict_together",
        nodes_result=Measured("graph/dho-digits.json", "dho", "glnn"),
        pixels_result=Measured("seg/scenes-dho", "dho"),
    ),
    System(
        "LAPTOP-Diff",
        "norm_feature prune_layers densekd.models.WithoutLayers",
        _OURS.format("prune_layers", "test_on_a_trained_network_the_choice_is_better_than_chance"),
        nodes_result=Without("terms(kl, norm_feature)", "terms(kl, mse)"),
        pixels_result=Measured("seg/scenes_losses", "norm_feature", "kl"),
    ),
    System(
        "SSLD",
        "ssld",
        _LOGIT.format("ssld", "test_unlabelled_data_alone_teach_and_a_teacher_of_another_mind_hardly_pulls"),
        nodes_result=Without("terms(ssld)", "terms(kl)"),
        pixels_result=Measured("seg/scenes_losses", "ssld", "kl"),
    ),
    System(
        "SD-DARTS",
        "voting sd_darts Mixed snapshots Votes",
        _OURS.format("sd_darts", "test_a_network_that_its_past_taught_loses_less_when_its_operations_are_chosen"),
        nodes_result=Without(
            "voting(lam=0.5, taught=0.0, votes=1.0)",
            "voting(lam=0.5, taught=0.0, votes=0.0)",
        ),
        pixels_result=Measured("seg/digits-voting", "average"),
    ),
    System(
        "MulKI",
        "mulki",
        _POLICY.format("mulki", "test_each_stage_brings_prototypes_of_two_tasks_where_the_teachers_have_them"),
        nodes_result=Without("terms(mulki)", "terms(average)"),
        pixels_result=Measured("seg/scenes_teachers", "mulki", "average"),
    ),
    System(
        "Random teachers",
        "random_teacher start_near",
        _GRAPH.format(
            "network_policies", "test_at_the_random_teacher_there_is_nothing_to_learn_and_next_to_it_there_is"
        ),
        pixels="a policy of `densekd.fit`, `start_near`, and `densekd.plain.probe.probed`: no config probes",
        nodes_result=Without("random_teacher(near=0.3)", "random_teacher(near=0.0)"),
    ),
)
"""Systems whose ideas ask for neither edges nor maps."""

GRAPHS = (
    System(
        "GLNN",
        "glnn",
        _GRAPH.format("recipes", "test_a_graph_free_student_is_as_good_on_cold_nodes"),
        pixels=_FEATURES_ALONE,
        nodes_result=Without("glnn", "supervised"),
    ),
    System(
        "FF-G2M",
        "ffg2m ffg2m_low ffg2m_high",
        _GRAPH.format("losses", "test_high_sees_differences_alone"),
        pixels=_EDGES,
        nodes_result=Without("ffg2m", "glnn"),
    ),
    System(
        "KRD",
        "krd",
        _GRAPH.format("edge_sampling", "test_reliable_nodes_are_listened_to"),
        pixels=_EDGES,
        nodes_result=Without("krd", "glnn"),
    ),
    System(
        "HGMD",
        "hgmd",
        _GRAPH.format("edge_sampling", "test_hard_nodes_hear_easy_ones_that_are_like_them"),
        pixels=_EDGES,
        nodes_result=Without("hgmd", "glnn"),
    ),
    System(
        "NOSMOG",
        "nosmog",
        _GRAPH.format("nosmog", "test_a_student_with_positions_beats_its_control_and_misses_edges_when_cold"),
        pixels=_EDGES,
        nodes_result=Without("nosmog", "glnn"),
    ),
    System(
        "VQGraph",
        "vqgraph vqsage vq_code_kl",
        _GRAPH.format("vqgraph", "test_the_student_learns_the_codes_of_the_nodes"),
        pixels=_EDGES,
        nodes_result=Without("vqgraph", "glnn"),
    ),
    System(
        "AdaGMLP",
        "adagmlp",
        _GRAPH.format("adagmlp", "test_members_pay_for_what_those_before_them_fit_badly"),
        pixels=_FEATURES_ALONE,
        nodes_result=Without("adagmlp", "glnn"),
    ),
    System(
        "SimMLP",
        "simmlp",
        _GRAPH.format("simmlp", "test_it_learns_from_the_edges"),
        pixels=_EDGES,
        nodes_result=Without("simmlp", "glnn"),
    ),
    System(
        "InfGraND",
        "infgrand",
        _RECIPE.format("infgrand", "test_a_node_learns_from_the_neighbour_that_influences_others"),
        pixels=_EDGES,
        nodes_result=Without("infgrand", "infgrand(labels=[0.8, 0.0], edges=[1.0, 0.0])"),
        open="at a cold start it sees the features as they are, which is a form of ours",
    ),
    System(
        "SALE-MLP",
        "sale_mlp",
        _RECIPE.format("sale_mlp", "test_walks_raise_the_accuracy_on_nodes_without_edges"),
        pixels=_EDGES,
        nodes_result=Without("sale_mlp", "glnn"),
        open="its formula is not published: what the two weights scale, the map before the walk loss and the draws are "
        "a form of ours",
    ),
    System(
        "ProGMLP",
        "progmlp",
        _RECIPE.format("progmlp", "test_what_comes_after_an_exit_is_not_computed"),
        pixels=_FEATURES_ALONE,
        nodes_result=Without("progmlp(confidence=None)", "glnn"),
        open="it has no code: formulas, and the rule by which a node leaves, are a form of ours",
    ),
    System(
        "TINED",
        "tined",
        _GRAPH.format("tined", "test_with_the_true_propagation_the_layers_are_the_teacher"),
        pixels=_EDGES,
        nodes_result=Without("tined", "glnn"),
    ),
    System(
        "Curvature-aware G2MLP",
        "curvature caw_w2",
        _GRAPH.format("curvature", "test_bottlenecks_weigh_more_in_logits_and_clusters_in_what_is_hidden"),
        pixels=_EDGES,
        nodes_result=Without("curvature", "glnn"),
    ),
    System(
        "CatGCN",
        "catgcn graphkd.data.fields.multi_hot",
        _TEACHER.format("catgcn", "test_pairs_of_fields_tell_what_no_field_does"),
        pixels=_EDGES,
        nodes_result=Measured("graph/teachers-cora.json", "glnn from catgcn"),
        open="clusters of nodes and weights of classes in training are left out; the paper's sets are not public",
    ),
    System(
        "LargeGT",
        "large_gt graphkd.teachers.stored.StoredGNN",
        _TEACHER.format("large_gt", "test_what_lies_four_hops_away_is_learned_and_is_not_by_two_hops"),
        pixels=_EDGES,
        nodes_result=Measured("graph/teachers-cora.json", "glnn from large_gt"),
        open="averaged features stand for node2vec; graphs of millions of nodes are not run; below SAGE on Cora",
    ),
    System(
        "Graph Mamba",
        "graph_mamba graphkd.networks.scan.selective_scan",
        _TEACHER.format("graph_mamba", "test_sequences_tell_a_distance_that_a_node_alone_does_not"),
        pixels=_EDGES,
        nodes_result=Measured("graph/teachers-cora.json", "glnn from graph_mamba"),
        open="its code is not published; positional encodings are left out; it needs the whole graph; the fused kernel "
        "was not run; on Cora it is below SAGE: `graph/teachers-cora.json`",
    ),
    System(
        "D2DGN",
        "d2dgn graphkd.unlearn",
        _GRAPH.format("unlearning", "test_deleted_edges_fall_towards_the_destroyer_and_retained_ones_stay"),
        nodes="unlearning/cora.py",
        pixels="it forgets edges and nodes of a graph",
        nodes_result=Measured("graph/unlearning-cora.json", "d2dgn"),
        open="its code is not published: weights, start and the choice of the epoch are a form of ours; a class of "
        "edges is all edges of a class of nodes; no faster than retraining at this size",
    ),
    System(
        "EHDM",
        "ehdm",
        _GRAPH.format("ehdm", "test_students_of_heuristics_beat_their_control_and_students_of_noise"),
        pixels="it predicts links",
        nodes_result=Measured("links/ehdm-digits.json", "ehdm"),
    ),
    System(
        "LAGNN",
        "lagnn",
        _GRAPH.format("lagnn", "test_a_student_without_edges_has_neighbours_all_the_same"),
        pixels="it generates the neighbours of a node, which a pixel has not lost",
        nodes_result=Measured("graph/lagnn-digits.json", "lagnn", "glnn", metric="cold"),
        open="no gain is shown on a real graph, of the teacher or the student; not run on Cora",
    ),
    System(
        "LLP",
        "llp llp_rank llp_dist",
        _GRAPH.format("links", "test_a_taught_student_beats_its_control_where_features_say_little"),
        pixels="it predicts links",
        nodes_result="links are scored by other measures: see the config",
    ),
    System(
        "GLEM",
        "glem",
        _GRAPH.format("glem", "test_the_text_model_learns_from_the_other"),
        pixels="it reads the texts of a graph",
        nodes_result="it needs the texts of a graph: see the results on CANE-Cora",
    ),
    System(
        "TAPE",
        "graphkd.text.explanations",
        _GRAPH.format("tape", "test_networks_on_each_are_averaged_and_better_so"),
        nodes="graph/tape/cane_cora.py",
        pixels="it reads the texts of a graph",
        nodes_result="explanations are written by a language model: no run on digits",
    ),
    System(
        "LLM-GNN",
        "annotator",
        _GRAPH.format("annotator", "test_a_graph_network_told_no_true_label_knows_more_than_its_annotator"),
        pixels="it annotates nodes of a graph",
        nodes_result=Without("annotator", "annotator(select=random, drop=0.0)"),
    ),
    System(
        "LightGNN",
        "lightgnn pruned_supervised graphkd.distill_recommender",
        _GRAPH.format("recommendation", "test_a_taught_student_beats_its_control_and_loses_what_is_noise"),
        nodes="recommendation/lightgnn/blocks.py",
        pixels="it recommends items to users",
        nodes_result=Measured("graph/lightgnn-blocks.json", "lightgnn"),
        open="the contrast of nodes whose masks overlap is absent; two-step edges are the strongest alone; on LastFM, "
        "one seed and a short schedule, the student is far below its teacher: `graph/lightgnn-lastfm.json`",
    ),
    System(
        "GLIDN",
        "glidn graphkd.scenes.learn",
        _GRAPH.format("scenes", "test_graphs_that_teach_each_other_beat_each_alone"),
        nodes="scenes/passes_actions.py",
        pixels="it reads entities that a detector has found",
        nodes_result=Measured(
            "graph/scenes-passes_actions.json", "glidn(hidden=16, heads=2, dropout=0.0)", metric="global"
        ),
        open="known by its abstract: edges, losses and weights are ours; Charades and CAD-120 are not at hand, so that "
        "it is measured on a drawn world alone; the mean of both graphs gains nothing",
    ),
    System(
        "LOGIN",
        "login graphkd.scenes.terms.AttractRepel",
        _GRAPH.format("scenes", "test_the_direction_of_a_relation_is_told"),
        nodes="scenes/passes_relations.py",
        pixels="it reads entities that a detector has found",
        nodes_result=Measured("graph/scenes-passes_relations.json", "login", metric="brc"),
        open="entities are rows of features, where the authors mask feature maps; their classes are given, and not "
        "corrected; Visual Genome is not at hand, so that it is measured on a drawn world alone, where the global "
        "interaction gains nothing",
    ),
    System(
        "LinguGKD",
        "lingugkd layer_infonce LevelWeights",
        _GRAPH.format("lingugkd", "test_a_taught_graph_network_beats_the_same_untaught"),
        pixels="it reads the texts of a graph",
        nodes_result=Without("lingugkd", "glnn"),
    ),
)
"""Systems of graphs alone."""


def _place(name: str, parts: str, test: str, pixels_result: Measured | str, open: str = "", pixels: str = "") -> System:
    """A system of dense prediction alone."""
    return System(
        name, parts, f"tests/densekd/{test}", nodes=_MAPS, pixels=pixels, pixels_result=pixels_result, open=open
    )


_OLD = "an earlier form was measured, see the changelog"
DENSE = (
    _place(
        "LAD",
        "lad",
        "models/test_label_assisted.py::test_it_teaches_with_the_label",
        Measured("seg/scenes_fpn", "lad"),
    ),
    _place(
        "MGD, semi-supervised",
        "mgd_semi mgd_semi_frozen gap_l1 cell_similarity",
        "test_mgd_semi.py::test_without_any_label_they_learn_from_each_other",
        _OLD,
    ),
    _place(
        "ACAM-KD",
        "acam",
        "losses/test_acam.py::test_a_perfect_student_pays_for_masks_that_are_alike_alone",
        Measured("det/digits_gfl", "acam_auto"),
    ),
    _place(
        "TransKD",
        "transkd transkd_gl transkd_ea",
        "test_csf.py::test_what_is_coarser_reaches_what_is_finer_and_not_the_other_way",
        Measured("seg/scenes_mit", "transkd", "kl"),
    ),
    _place(
        "Soft Teacher",
        "densekd.models.SoftTeacher",
        "models/test_soft_teacher.py::test_background_counts_as_much_as_the_teacher_believes",
        "not run: no log of semi-supervised detection",
        pixels="det/soft_teacher/digits.py",
        open="the part is mmdet's, with another teacher and other checks; nothing is measured",
    ),
    _place(
        "LPLD",
        "densekd.models.LPLD densekd.models.MeanTeacher",
        "models/test_lpld.py::test_where_no_box_is_sure_low_confidence_teaches",
        Measured("det/source_free-digits", "lpld", "mean_teacher"),
        pixels="det/lpld/digits.py",
        open="one seed of 60 steps: no gain over sure pseudo labels alone, and batch normalisation alone gains more",
    ),
    _place(
        "EZAD",
        "densekd.models.EZADRoIHead",
        "models/test_ezad.py::test_regions_teach_classes_without_a_box",
        "not run: no log of open vocabularies; a test compares true boxes told with and without the regions",
        pixels="det/ezad/digits.py",
        open="no published CLIP was tried; base and novel classes have an AP each, which is not measured; the optional "
        "contrast of regions is left out; regions are not drawn, all of an image teach",
    ),
    _place(
        "OvarNet",
        "densekd.models.OvarNetRoIHead",
        "models/test_ovarnet.py::test_regions_teach_attributes_without_a_label",
        "not run: no log of open vocabularies; a test compares attributes of true boxes with and without the regions",
        pixels="det/ovarnet/digits.py",
        open="no published CLIP and no photographs with attributes were tried; regions are encoded by fully connected "
        "layers, not by a transformer; the teacher is frozen while the detector learns; captions teach by one term",
    ),
    _place(
        "WSCoL",
        "densekd.models.WSCoL",
        "models/test_wscol.py::test_the_students_features_of_a_label_are_brought_together",
        Measured("det/source_free-digits", "wscol", "mean_teacher"),
        pixels="det/wscol/digits.py",
        open="one seed of 60 steps, in which batch normalisation alone gains more; the map reads what the classifier "
        "reads, not RoI maps; it sees the weak view through the teacher",
    ),
    _place(
        "BPKD",
        "bpkd bpkd_edge bpkd_body",
        "losses/test_bpkd.py::test_bands_are_those_of_scipy",
        Measured("seg/scenes_balance", "bpkd_auto", "kl_auto"),
    ),
    _place(
        "HFD + BSD",
        "hfd_bsd hfd bsd_pixel bsd_region",
        "losses/test_bsd_region.py::test_each_cell_is_taught_in_one_direction",
        _OLD,
    ),
    _place(
        "CIRKD",
        "cirkd cirkd_pairs cirkd_memory",
        "losses/test_cirkd_memory.py::test_pixels_of_a_class_are_filed_under_it",
        Measured("seg/scenes_fpn", "cirkd", "kl"),
    ),
    _place(
        "MasKD",
        "maskd",
        "losses/test_maskd.py::test_tokens_that_learn_part_the_map_among_them",
        Measured("det/digits_gfl", "maskd_auto"),
    ),
    _place(
        "MGD, masked",
        "mgd",
        "losses/test_mgd.py::test_it_learns_to_make_what_was_hidden",
        Measured("det/digits_gfl", "mgd_auto"),
    ),
    _place(
        "Af-DCD",
        "af_dcd",
        "losses/test_af_dcd.py::test_the_contrast_tells_groups_apart_where_the_error_does_not",
        "the config is run, not measured on digits",
    ),
    _place(
        "SKD",
        "skd skd_pairs skd_holistic",
        "losses/test_skd_holistic.py::test_the_student_learns_not_to_be_told_apart",
        Measured("seg/scenes_balance", "skd_auto", "kl_auto"),
    ),
    _place(
        "FGD",
        "fgd",
        "losses/test_fgd.py::test_a_small_object_counts_as_much_as_a_large_one",
        Measured("det/digits_gfl", "fgd"),
    ),
    _place(
        "LD",
        "ld",
        "methods/test_ld.py::test_values_by_hand",
        Measured("det/digits_gfl", "ld"),
        "the authors' weights are for sums over positions; here means are taken, and their weights are not tuned",
    ),
    _place(
        "CrossKD",
        "crosskd",
        "methods/test_crosskd.py::test_the_gradient_reaches_early_layers_of_the_student_alone",
        Measured("det/digits_gfl", "crosskd"),
        "centerness is not compared",
    ),
    _place(
        "DETRDistill",
        "queries",
        "methods/test_queries.py::test_matched_queries_come_nearer_to_the_teacher_than_those_of_the_same_number",
        "no log is kept",
        "features are not weighed by the teacher's queries, and its assignments do not teach the student's; heads that "
        "tell masks are an addition of ours",
    ),
    _place(
        "FBKD",
        "fbkd",
        "losses/test_fbkd.py::test_relations_tell_apart_what_positions_alone_do_not",
        Measured("det/digits_gfl", "fbkd_auto"),
    ),
    _place(
        "FreeKD",
        "freekd",
        "losses/test_freekd.py::test_prompts_say_where_a_student_learns",
        Measured("det/digits_gfl", "freekd"),
    ),
    _place(
        "UniDistill",
        "unidistill unidistill_feature unidistill_relation unidistill_heatmap unidistill_regression",
        "bev/test_unidistill_losses.py::test_background_does_not_teach",
        Measured("bev/lidar_to_camera_world", "unidistill"),
    ),
    _place(
        "PointDistiller",
        "pointdistiller",
        "losses/test_pointdistiller.py::test_the_weight_is_proportional_to_one_more_than_the_count",
        "it distills clouds of points, run on a real frame, not measured",
    ),
    _place(
        "OmniScene",
        "omniscene omniscene_views instance_text",
        "bev/test_fusion.py::test_sentences_and_a_larger_detector_teach_a_student_of_views",
        Measured("bev/lidar_world-omniscene", "omniscene"),
        "sentences are made from templates, where a language model writes them in the paper",
    ),
    _place(
        "Point cloud DisCo",
        "densekd.bev.point_disco.PointDisCo",
        "bev/test_point_disco.py::test_an_encoder_learns_without_labels_and_does_not_collapse",
        Measured("bev/point_disco-lidar_world.json", "point_disco", "untrained"),
    )._replace(
        pixels="it learns from clouds without labels: `densekd points` is its command, with the data of any config"
    ),
    _place(
        "GCP + SAD",
        "sad sparse_scales prune_channels coupled_channels densekd.models.Pruned",
        "policies/test_sparse_scales.py::"
        "test_scales_of_channels_that_the_task_does_not_need_go_so_that_the_right_ones_are_pruned",
        "`python benchmarks/prune_digits.py` measures it; not run",
    ),
    System(
        "CWD",
        "cwd",
        _FEATURE.format("cwd", "test_constant_of_a_channel_changes_nothing"),
        nodes="the places of a map are what it compares; on nodes, `rank_graph` runs it over the nodes",
        pixels_result=Measured("seg/scenes_balance", "cwd_auto", "kl_auto"),
    ),
    System(
        "DIST",
        "dist",
        _LOGIT.format("dist", "test_probabilities_of_the_same_shape_are_enough"),
        nodes_result=Without("terms(dist)", "terms(kl)"),
        pixels_result=Measured("seg/scenes_balance", "dist_auto", "kl_auto"),
    ),
    System(
        "PKD",
        "pkd",
        _FEATURE.format("pkd", "test_scale_and_shift_of_a_channel_change_nothing"),
        nodes=_MAPS,
        pixels_result=Measured("det/digits-pkd", "pkd"),
    ),
    System(
        "IFVD",
        "ifvd",
        _RELATION.format("ifvd", "test_rotation_scale_and_names_of_classes_change_nothing"),
        nodes=_MAPS,
        pixels_result=Measured("seg/scenes_balance", "ifvd_auto"),
    ),
)
"""Systems of dense prediction alone, and the methods that they are compared with."""

SYSTEMS = (*SHARED, *GRAPHS, *DENSE)

PLAIN = frozenset(
    (
        *("alpha_div", "binary_kl", "dkd", "jeffreys", "js", "kd", "kl", "pseudo", "rkl", "skew_kl", "skew_rkl", "tvd"),
        *("label_smoothing", "tfkd_reg", "tfkd_self", "at", "cosine", "hcl", "hint", "mse", "nst", "patient", "vid"),
        *("cka", "pkt", "rkd", "rsd_gram", "sp", "crd", "cross_modal_mutual", "dino", "infonce", "gkd", "smooth_l1"),
        *("anneal", "average", "balance", "milestones", "ramp", "warmup"),
        *("terms", "supervised", "refined_teacher", "link_supervised", "last_map", "proposals"),
    )
)
"""Losses, policies, recipes and methods that are parts of other systems, or baselines, and no row."""
