"""All tables and figures of three papers, from data to PDF. `make reproduce` freezes the plan and calls this."""

from snakemake.utils import min_version

from bench.workflow import planfile

min_version("9.27")  # priorities by wildcards


# Used with `--sdm apptainer` only. The image is built from the Dockerfile, which says how.
container: "warmbench.sif"


# The frozen plan to work from, which `python -m bench plan --scale S --freeze` writes.
PLAN = planfile.PlanFile.read(config.get("plan", "results/ci/plan.json"))


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
