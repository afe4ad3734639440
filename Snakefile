"""All tables and figures of three papers, from data to PDF. `make reproduce` freezes the plan and calls this."""

import gc

from snakemake.utils import min_version

from bench.workflow import planfile

min_version("9.27")  # priorities by wildcards

# A graph of thousands of jobs holds few cycles; looking for some all along took a fifth of the time.
gc.set_threshold(1_000_000)


container: "docker://python:3.11-slim"


# The frozen plan to work from, which `python -m bench plan --scale S --freeze` writes.
PLAN = planfile.PlanFile.read(config.get("plan", "results/ci/plan.json"))


# Under a limit on jobs per second (Snakemake's default), every job that has finished makes Snakemake look at all waiting
# jobs once more each second until the end: with fifty jobs done that took more than half a core from the runs.
onstart:
    workflow.scheduler.job_rate_limiter = None


wildcard_constraints:
    job="[0-9a-f]{12}",


include: "bench/workflow/rules/train.smk"
include: "bench/workflow/rules/report.smk"
include: "bench/workflow/rules/perf.smk"


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
