"""Data and runs. A job executes a batch of runs; records are not declared outputs, so a failed job deletes none.

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
        parents=lambda wildcards: PLAN.before(wildcards.batch),
    output:
        touch(PLAN.marker("{batch}")),
    log:
        PLAN.path("logs", "run", "{batch}.log"),
    benchmark:
        PLAN.path("benchmarks", "run-{batch}.tsv")
    priority: lambda wildcards: PLAN.priority(wildcards.batch)
    threads: PLAN.content["threads"]
    resources:
        runtime=lambda wildcards, attempt: PLAN.runtime(wildcards.batch, attempt),
        mem_mb=lambda wildcards, attempt: PLAN.batch(wildcards.batch)["memory_mb"]
        * attempt,
        gpu=lambda wildcards: PLAN.batch(wildcards.batch)["gpus"],
        machine=lambda wildcards: PLAN.share(wildcards.batch),
    params:
        scale=PLAN.scale,
    message:
        "training batch {wildcards.batch}"
    shell:
        "python -m bench run --scale {params.scale:q} --batch {wildcards.batch} > {log:q} 2>&1"
