# syntax=docker/dockerfile:1
# The image of every promsidecar command: the binary and the C runtime, no shell, no package manager.
#
#   docker build --build-arg VERSION=0.1.0 --build-arg GIT_SHA=$(git rev-parse HEAD) -t promsidecar:0.1.0 .

ARG RUST_VERSION=1.95.0
ARG DEBIAN=bookworm

FROM rust:${RUST_VERSION}-${DEBIAN} AS build
WORKDIR /build
# What may be in the context is listed in .dockerignore.
COPY . .
# The registry and target folders live in caches, so the binary is copied out of them in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/build/target,sharing=locked \
    cargo build --release --locked --bin promsidecar \
    && install -D -m 0755 target/release/promsidecar /out/promsidecar

# The same Debian release as the builder's, for the same C library.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=0.0.0-dev
ARG GIT_SHA=unknown
LABEL org.opencontainers.image.title="promsidecar" \
      org.opencontainers.image.description="Mutating admission webhook that gives every pod its own Prometheus agent" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${GIT_SHA}"
COPY --from=build /out/promsidecar /usr/local/bin/promsidecar
# Numeric, so that a kubelet can check runAsNonRoot. Nothing is written: the root file system may be read-only.
USER 65532:65532
EXPOSE 8443
ENTRYPOINT ["/usr/local/bin/promsidecar"]
CMD ["webhook"]
