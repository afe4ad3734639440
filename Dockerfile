# The environment of requirements.lock for clusters without Python: docker build -t warmbench .
# For Snakemake's `--sdm apptainer`: apptainer build warmbench.sif docker-daemon:warmbench:latest
# Results and data are mounted: docker run --gpus all -v "$PWD/results:/results" -v "$PWD/data:/data" warmbench reproduce --scale small
# The same Python as `make env` accepts; Debian's slim image keeps it small.
FROM python:3.11-slim

# g++ for torch.compile, git so that records name their commit, make for the targets of the README.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ git make \
    && rm -rf /var/lib/apt/lists/*

# Nothing of the image may depend on who runs it: clusters start containers under any user.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    BENCH_RESULTS=/results BENCH_DATA=/data

WORKDIR /srv/warmbench

# The locked packages first, so that an edit of the code does not install them again.
COPY requirements.lock ./
# Without dependencies: auto-LiRPA's metadata asks for an old torch, and the lock file is complete.
RUN python -m pip install --no-cache-dir --no-deps --requirement requirements.lock

# The project as it is in the repository; .dockerignore leaves results, data and environments out.
COPY . .
RUN python -m pip install --no-cache-dir --no-deps --no-build-isolation --editable . \
    && mkdir --mode=0777 --parents /results /data

# Snakemake keeps its state in the current folder, which any user must be able to write.
WORKDIR /results

# `docker run warmbench plan --scale paper` is `python -m bench plan --scale paper`.
ENTRYPOINT ["python", "-m", "bench"]
CMD ["doctor"]
