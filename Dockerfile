# The hub: small, not root, its file system read-only but for /data (SQLite) and /tmp.
#   docker build -t saigai-hub .
#   docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --network none saigai-hub demo --no-serve
# The base is named by its tag: a digest changes with each mend of Debian, and an old one keeps its holes. To build from
# one that you have looked at: --build-arg BASE=python@sha256:…
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS build
WORKDIR /build
RUN python -m venv /opt/hub
COPY requirements.txt .
RUN /opt/hub/bin/pip install --no-cache-dir --no-compile --require-hashes -r requirements.txt
COPY pyproject.toml README.md CHANGELOG.md ./
COPY schemas schemas
COPY src src
COPY connectors connectors
RUN /opt/hub/bin/pip install --no-cache-dir --no-deps --no-build-isolation . ./connectors/* \
 && /opt/hub/bin/hub --help > /dev/null \
 && /opt/hub/bin/pip uninstall --yes pip

FROM ${BASE}
COPY --from=build /opt/hub /opt/hub
RUN groupadd --gid 10001 hub \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin hub \
 && install --directory --owner=hub --group=hub --mode=0700 /data
ENV PATH=/opt/hub/bin:$PATH PYTHONDONTWRITEBYTECODE=1 HUB_DATABASE_URL=sqlite:////data/hub.sqlite3
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
# Of `hub serve`. A service that answers nothing over HTTP says in docker-compose.yml how it is asked.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["hub"]
CMD ["--help"]
