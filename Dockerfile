# sealift with the clients of the databases that docker-compose.yml has. Debian's trixie has the clients of PostgreSQL 17
# and MariaDB 11.8: a dump tool must not be older than its server.

FROM node:24-trixie-slim AS build
WORKDIR /sealift
COPY package.json package-lock.json ./
# No package needs its install script here: the Node.js that one would bring is that of the image.
RUN npm ci --ignore-scripts
COPY . .
RUN npm run build && npm prune --omit=dev --ignore-scripts

FROM node:24-trixie-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends mariadb-client postgresql-client redis-tools \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/sealift
COPY --from=build /sealift/package.json ./
COPY --from=build /sealift/bin bin
COPY --from=build /sealift/dist dist
COPY --from=build /sealift/docs docs
COPY --from=build /sealift/node_modules node_modules
# Configuration, keys and secrets are mounted, and must belong to this user or to root.
ARG SEALIFT_UID=1000
RUN ln -s /opt/sealift/bin/sealift /usr/local/bin/sealift \
 && install --directory --owner="$SEALIFT_UID" --group="$SEALIFT_UID" --mode=700 /etc/sealift /var/lib/sealift
ENV HOME=/var/lib/sealift SEALIFT_CONFIG=/etc/sealift/sealift.yaml
VOLUME /var/lib/sealift
USER ${SEALIFT_UID}
WORKDIR /etc/sealift
ENTRYPOINT ["sealift"]
CMD ["daemon"]
