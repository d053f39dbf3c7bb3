# syntax=docker/dockerfile:1
# Builds wsbcast and puts it alone into a small image.
#
#   docker build --build-arg WSBCAST_BUILD_COMMIT="$(git rev-parse --short HEAD)" -t wsbcast .

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build

# Dependencies first, against empty sources: this layer is built anew only when they change.
COPY Cargo.toml Cargo.lock build.rs ./
COPY bench/lab/Cargo.toml bench/lab/
COPY bench/wsload/Cargo.toml bench/wsload/
COPY tests/chaos/Cargo.toml tests/chaos/
COPY tests/kit/Cargo.toml tests/kit/
COPY tests/upgrades/Cargo.toml tests/upgrades/
RUN mkdir -p src bench/lab/src bench/wsload/src tests/chaos/src tests/kit/src tests/upgrades/src \
    && touch src/lib.rs bench/lab/src/lib.rs bench/wsload/src/lib.rs tests/chaos/src/lib.rs \
        tests/kit/src/lib.rs tests/upgrades/src/lib.rs \
    && echo 'fn main() {}' >src/main.rs \
    && cargo build --release --locked --package wsbcast

COPY src src
ARG WSBCAST_BUILD_COMMIT
RUN touch src/lib.rs src/main.rs \
    && cargo build --release --locked --package wsbcast \
    && strip target/release/wsbcast \
    && target/release/wsbcast --version

# glibc and CA certificates (for rediss://) beside the binary, and a user that is not root.
FROM debian:bookworm-slim
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/release/wsbcast /usr/local/bin/wsbcast
USER 65532:65532
ENV WSBCAST_LISTEN=0.0.0.0:8000 \
    WSBCAST_ADMIN_LISTEN=127.0.0.1:9000
EXPOSE 8000
STOPSIGNAL SIGTERM
# Asks the admin listener, which a busy data plane can't keep from answering.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["wsbcast", "health"]
ENTRYPOINT ["wsbcast"]
