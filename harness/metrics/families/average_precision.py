"""Average precision: the precision at each relevant result, summed, over the number of relevant documents."""

from harness.metrics.measure import JUDGED_ONLY, REL, Family, register

register(
    Family(
        "MAP",
        "AP",
        "precision at each relevant result, summed, over the number of relevant documents",
        "Buckley and Voorhees 2005, Retrieval System Evaluation (in TREC: Experiment and Evaluation); trec_eval, `map`",
        "may",
        options=REL | JUDGED_ONLY,
        ranx="map",
        trec_eval="map_cut",
        trec_eval_whole="map",
    )
)
