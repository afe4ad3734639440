"""The suite's own speed against its peers, measured in one run on the machine at hand."""


rule perf:
    output:
        touch("results/perf/.measured"),
    log:
        "results/perf/perf.log",
    benchmark:
        "results/perf/perf.tsv"
    localrule: True
    # More than there are: Snakemake gives all, so that nothing else runs meanwhile.
    threads: 256
    resources:
        runtime=60,
        mem_mb=8000,
    message:
        "speed against peers"
    shell:
        "python -m bench perf 2>&1 | tee {log:q}"
