"""Data and runs. A job executes runs one after the other; records are not declared outputs, so a failed job deletes none.

Data are fetched where Snakemake runs: the nodes of a cluster often reach no server.
"""


rule fetch:
    output:
        touch(PLAN.marker("data")),
    log:
        PLAN.path("logs", "fetch.log"),
    benchmark:
        PLAN.path("benchmarks", "fetch.tsv")
    localrule: True
    threads: 1
    resources:
        runtime=240,
        mem_mb=4000,
    params:
        scale=PLAN.scale,
    message:
        "data sets of scale {PLAN.scale}"
    shell:
        "python -m bench fetch --scale {params.scale:q} > {log:q} 2>&1"


rule run:
    input:
        data=PLAN.marker("data"),
        parents=lambda wildcards: PLAN.before(wildcards.job),
    output:
        touch(PLAN.marker("{job}")),
    log:
        PLAN.path("logs", "run", "{job}.log"),
    benchmark:
        PLAN.path("benchmarks", "run-{job}.tsv")
    priority: lambda wildcards: PLAN.priority(wildcards.job)
    threads: PLAN.content["threads"]
    resources:
        runtime=lambda wildcards, attempt: PLAN.runtime(wildcards.job, attempt),
        mem_mb=lambda wildcards, attempt: PLAN.job(wildcards.job)["memory_mb"] * attempt,
        gpu=lambda wildcards: PLAN.job(wildcards.job)["gpus"],
        machine=lambda wildcards: PLAN.share(wildcards.job),
    params:
        scale=PLAN.scale,
    message:
        "training job {wildcards.job}"
    shell:
        "python -m bench run --scale {params.scale:q} --job {wildcards.job} > {log:q} 2>&1"
