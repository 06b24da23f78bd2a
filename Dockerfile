# Images of Weir's programs, one target each: control-plane, data-plane, backend-mock.
#
# Each image contains one program, its C library, and `probe` for the health check, but no shell and no package
# manager: only Weir needs updates. The programs come from one of two stages, chosen by the build argument
# PROGRAMS; BuildKit does not run the other one.
#   built     compiles the source tree that is the build context (the default)
#   prebuilt  copies them from the folder dist/ of the build context (what .ci/compose does)
ARG PROGRAMS=built
# Releases, not moving tags. To pin by digest: --build-arg RUST_IMAGE=rust@sha256:… --build-arg DEBIAN_IMAGE=debian@sha256:…
# The compiler's version is that of rust-toolchain.toml.
ARG RUST_IMAGE=rust:1.95.0-bookworm
ARG DEBIAN_IMAGE=debian:12.12-slim

FROM ${RUST_IMAGE} AS built
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --profile dist --locked -p control-plane -p data-plane -p backend-mock -p probe \
    && mkdir /programs \
    && for program in control-plane data-plane backend-mock probe; do \
        strip -o "/programs/$program" "target/dist/$program" || exit 1; \
    done

FROM scratch AS prebuilt
COPY dist/ /programs/

FROM ${PROGRAMS} AS programs

# The shared libraries of the programs, the time zones for reports, and a folder for the database.
FROM ${DEBIAN_IMAGE} AS tree
COPY --from=programs /programs /programs
RUN mkdir -p /tree /data \
    && ldd /programs/* | grep -o '/[^ ]*\.so[^ ]*' | sort -u | xargs cp --parents --dereference -t /tree

FROM scratch AS program
COPY --from=tree /tree /
COPY --from=programs /programs/probe /probe
USER 65532:65532

FROM program AS control-plane
COPY --from=tree /usr/share/zoneinfo /usr/share/zoneinfo
COPY --from=tree --chown=65532:65532 /data /data
# A folder for the nodes' join token: --join-token-file.
COPY --from=tree --chown=65532:65532 /data /join
COPY --from=programs /programs/control-plane /control-plane
ENV WEIR_DATABASE=sqlite:/data/weir.db WEIR_ADMIN_LISTEN=0.0.0.0:8081 WEIR_NODES_LISTEN=0.0.0.0:8090
VOLUME /data
EXPOSE 8081 8090
HEALTHCHECK --interval=2s --timeout=2s --retries=15 CMD ["/probe", "http://127.0.0.1:8081/readyz"]
ENTRYPOINT ["/control-plane"]

FROM program AS data-plane
COPY --from=programs /programs/data-plane /data-plane
ENV WEIR_CONTROL_PLANE=https://control-plane:8090 WEIR_HTTP_LISTEN=0.0.0.0:8080 WEIR_STATUS_LISTEN=127.0.0.1:8091
EXPOSE 8080
HEALTHCHECK --interval=2s --timeout=2s --retries=15 CMD ["/probe", "http://127.0.0.1:8091/readyz"]
ENTRYPOINT ["/data-plane"]

FROM program AS backend-mock
COPY --from=programs /programs/backend-mock /backend-mock
ENV WEIR_MOCK_LISTEN=0.0.0.0:8082
EXPOSE 8082
HEALTHCHECK --interval=2s --timeout=2s --retries=15 CMD ["/probe", "http://127.0.0.1:8082/health"]
ENTRYPOINT ["/backend-mock"]
