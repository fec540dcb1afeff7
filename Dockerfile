# Two images from one file:
#   docker build --target worker  -t embedpool-worker .     serves a bundle mounted at /bundle
#   docker build --target indexer -t embedpool-indexer .    python -m indexer …
# Neither holds torch; the worker holds no faiss either. Build bundles outside, with the `build` extra.
# The version that every test runs on.
ARG PYTHON_VERSION=3.11
# Any image with `python` and a user database, for registries that hold other bases.
ARG BASE=python:${PYTHON_VERSION}-slim

FROM ${BASE} AS source
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY proto proto
COPY build_models build_models
COPY indexer indexer
COPY worker worker

FROM source AS worker-install
RUN python -m venv /opt/embedpool
RUN /opt/embedpool/bin/pip install -c constraints.txt ".[worker,http,tracing]"
# Nothing is installed in a running image.
RUN /opt/embedpool/bin/pip uninstall -q -y pip setuptools

FROM source AS indexer-install
RUN python -m venv /opt/embedpool
RUN /opt/embedpool/bin/pip install -c constraints.txt ".[indexer]"
# Nothing is installed in a running image.
RUN /opt/embedpool/bin/pip uninstall -q -y pip setuptools

FROM ${BASE} AS run
RUN useradd --system --uid 10001 --home-dir /tmp embedpool
ENV PATH=/opt/embedpool/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
STOPSIGNAL SIGTERM

FROM run AS indexer
COPY --from=indexer-install /opt/embedpool /opt/embedpool
ENTRYPOINT ["python", "-m", "indexer"]
CMD ["--help"]

# Last, so that it is what a build without --target makes.
FROM run AS worker
COPY --from=worker-install /opt/embedpool /opt/embedpool
# Variables and no flags, because flags go before variables: whoever runs the image can change each of them.
# Loopback of a container is of no use, so that it listens beyond; publish the port where you trust the network,
# or set EMBEDPOOL_TLS_CERT and EMBEDPOOL_TLS_KEY to files mounted into it: with them all is encrypted.
ENV EMBEDPOOL_BUNDLE=/bundle EMBEDPOOL_LISTEN=0.0.0.0:50051 EMBEDPOOL_INSECURE=true
# gRPC, and the ports that EMBEDPOOL_HTTP_LISTEN and EMBEDPOOL_METRICS_LISTEN have in deploy/.
EXPOSE 50051 8080 9464
# Asks in plain text and without a token: give --health-cmd where TLS or tokens are asked for.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-m", "worker", "info", "--target", "127.0.0.1:50051"]
ENTRYPOINT ["python", "-m", "worker", "serve"]
