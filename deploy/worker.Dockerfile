# On a CPU as it is, with OpenCV's models; for torch models --build-arg EXTRA=pictures,sam,transformers, and for a GPU
# --build-arg BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04 as well (torch brings its own CUDA libraries).
ARG BASE=python:3.11-slim
FROM ${BASE}

# The CUDA images bring no Python.
RUN command -v python || ( \
      apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv && \
      rm -rf /var/lib/apt/lists/* && python3 -m venv /opt/venv )
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1

WORKDIR /srv/maskline
COPY pyproject.toml README.md constraints.txt ./
COPY maskline maskline
COPY worker worker
ARG EXTRA=pictures
RUN pip install --no-cache-dir -c constraints.txt ".[${EXTRA}]" && useradd --system maskline && \
    install --directory --owner=maskline /weights

USER maskline
CMD ["python", "-m", "worker"]
