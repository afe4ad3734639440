"""Records to tables, figures, verdicts and the report; all of it redraws without training.

Seconds of work: a cluster's queue would take longer, so these run where Snakemake does.
"""


rule collect:
    input:
        PLAN.records,
    output:
        PLAN.path("tables", "{exhibit}.parquet"),
        PLAN.path("tables", "{exhibit}.json"),
    log:
        PLAN.path("logs", "collect", "{exhibit}.log"),
    benchmark:
        PLAN.path("benchmarks", "collect", "{exhibit}.tsv")
    wildcard_constraints:
        exhibit=PLAN.constraint(),
    priority: planfile.AT_ONCE
    localrule: True
    threads: 1
    resources:
        runtime=30,
        mem_mb=2000,
    params:
        scale=PLAN.scale,
        version=PLAN.version,
    message:
        "records of {wildcards.exhibit}"
    shell:
        "python -m bench collect --scale {params.scale:q} --exhibits {wildcards.exhibit} > {log:q} 2>&1"


rule draw_figure:
    input:
        PLAN.path("tables", "{exhibit}.parquet"),
        PLAN.path("tables", "{exhibit}.json"),
    output:
        PLAN.path("exhibits", "{exhibit}.csv"),
        PLAN.path("exhibits", "{exhibit}.pdf"),
        report(
            PLAN.path("exhibits", "{exhibit}.png"),
            category=PLAN.category,
            subcategory="Figures",
            labels=PLAN.labels,
            caption="caption.rst",
        ),
    log:
        PLAN.path("logs", "draw", "{exhibit}.log"),
    benchmark:
        PLAN.path("benchmarks", "draw", "{exhibit}.tsv")
    wildcard_constraints:
        exhibit=PLAN.constraint("figure"),
    priority: planfile.AT_ONCE
    localrule: True
    threads: 1
    resources:
        runtime=30,
        mem_mb=2000,
    params:
        scale=PLAN.scale,
        version=PLAN.version,
        title=PLAN.title,
        caption=PLAN.caption,
        declared=PLAN.declared,
        settings=PLAN.settings,
    message:
        "figure {wildcards.exhibit}"
    shell:
        "python -m bench draw --scale {params.scale:q} --exhibits {wildcards.exhibit} --page > {log:q} 2>&1"


use rule draw_figure as draw_table with:
    output:
        PLAN.path("exhibits", "{exhibit}.csv"),
        PLAN.path("exhibits", "{exhibit}.json"),
        PLAN.path("exhibits", "{exhibit}.tex"),
        report(
            PLAN.path("exhibits", "{exhibit}.md"),
            category=PLAN.category,
            subcategory="Tables",
            labels=PLAN.labels,
            caption="caption.rst",
        ),
    wildcard_constraints:
        exhibit=PLAN.constraint("table"),
    localrule: True
    message:
        "table {wildcards.exhibit}"


rule judge:
    input:
        PLAN.tables(),
        PLAN.exhibit_files(),
    output:
        PLAN.path("verdicts.csv"),
        PLAN.path("verdicts.md"),
        report(
            PLAN.path("index.html"),
            category="Verdicts",
            labels={"exhibit": "all", "kind": "verdicts"},
        ),
    log:
        PLAN.path("logs", "judge.log"),
    benchmark:
        PLAN.path("benchmarks", "judge.tsv")
    localrule: True
    threads: 1
    resources:
        runtime=30,
        mem_mb=2000,
    params:
        scale=PLAN.scale,
        exhibits=PLAN.names(),
        code=PLAN.content["judging"],
    message:
        "a verdict for every published number and claim"
    shell:
        "python -m bench judge --scale {params.scale:q} --exhibits {params.exhibits} > {log:q} 2>&1"


rule paper:
    input:
        PLAN.path("verdicts.csv"),
        PLAN.path("index.html"),
        PLAN.exhibit_files(),
        PLAN.project_file("paper/main.typ"),
    output:
        report(
            PLAN.path("paper.pdf"),
            category="Report",
            labels={"exhibit": "all", "kind": "report"},
        ),
    log:
        PLAN.path("logs", "paper.log"),
    benchmark:
        PLAN.path("benchmarks", "paper.tsv")
    localrule: True
    threads: 1
    resources:
        runtime=30,
        mem_mb=2000,
    params:
        scale=PLAN.scale,
        exhibits=PLAN.names(),
    message:
        "the report"
    shell:
        "python -m bench paper --scale {params.scale:q} --exhibits {params.exhibits} > {log:q} 2>&1"
