"""All tables and figures of three papers, from data to PDF. `make reproduce` freezes the plan and calls this."""

from snakemake.utils import min_version

from bench.workflow import planfile

min_version("9.27")  # priorities by wildcards


configfile: "bench/workflow/rules/workflow.yaml"


# Used with `--sdm apptainer` only. The image is built from the Dockerfile, which says how.
container: "warmbench.sif"


PLAN = planfile.PlanFile.read(config["plan"])


wildcard_constraints:
    job="[0-9a-f]{12}",


include: "bench/workflow/rules/train.smk"
include: "bench/workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        # Exhibits that were drawn with gaps are there: Snakemake would not look for what they lack.
        PLAN.markers(),
        PLAN.exhibit_files(),
        PLAN.path("verdicts.csv"),
        PLAN.path("index.html"),
        PLAN.path("paper.pdf"),
    localrule: True
    message:
        "everything of scale {PLAN.scale} is there"
