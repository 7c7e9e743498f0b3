FROM python:3.11-slim AS build
WORKDIR /build
COPY . .
RUN python -m venv /opt/hub \
 && /opt/hub/bin/pip install --no-cache-dir --require-hashes -r requirements.txt \
 && /opt/hub/bin/pip install --no-cache-dir --no-deps --no-build-isolation . ./connectors/*

FROM python:3.11-slim
COPY --from=build /opt/hub /opt/hub
RUN useradd --uid 10001 --create-home hub && mkdir /data && chown hub /data
USER hub
WORKDIR /data
ENV PATH=/opt/hub/bin:$PATH HUB_DATABASE_URL=sqlite:////data/hub.sqlite3
VOLUME /data
ENTRYPOINT ["hub"]
CMD ["--help"]
